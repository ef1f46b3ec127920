"""An evaluation as one HTML file that needs nothing else: no script, no font, no address."""

from __future__ import annotations

import datetime
from html import escape
from importlib.metadata import version

from runner.installation import NAME
from runner.serving.differences import CONFIDENCE, Difference
from runner.serving.evaluation import JUDGE, LOSS, Evaluation, Pair
from runner.serving.judging import VERDICTS, Judgement, Verdict
from runner.serving.likelihood import Likelihood

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--good:#2a7d3f;--bad:#b3342d;--calm:#5b626f;--tint:#8881}
@media(prefers-color-scheme:dark){:root{--good:#81c995;--bad:#ff8a80;--calm:#bdc1c6}.verdict{color:#111!important}}
@media print{.cells div{max-height:none!important}.scroll{overflow:visible}}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:2rem 1.25rem 4rem;max-width:72rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0}.quiet{color:var(--calm)}
.verdict{display:inline-block;padding:.15rem .6rem;border-radius:.4rem;color:#fff;font-weight:600}
.verdict{background:var(--calm)}
.verdict.better{background:var(--good)}.verdict.worse{background:var(--bad)}
section.slice{margin-top:1.2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--calm);font-size:.85rem}
td.n,th.n{text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}
svg{display:block}svg line.zero{stroke:var(--calm);stroke-dasharray:3 3}svg .b{stroke:var(--calm);fill:var(--calm)}
svg .g{stroke:var(--good);fill:var(--good)}svg .r{stroke:var(--bad);fill:var(--bad)}
.pair{border:1px solid var(--line);border-radius:.5rem;margin:.8rem 0;overflow:hidden}
.pair header{padding:.5rem .8rem;background:var(--tint)}
.pair header{display:flex;gap:1rem;justify-content:space-between;flex-wrap:wrap}
.cells{display:grid;grid-template-columns:repeat(3,minmax(0,1fr))}
.cells div{max-height:16rem;overflow:auto}
.cells div{padding:.6rem .8rem;border-left:1px solid var(--line);white-space:pre-wrap;overflow-wrap:anywhere}
.cells div:first-child{border-left:0}.cells b{display:block;font-size:.8rem;color:var(--calm);margin-bottom:.2rem}
@media(max-width:40rem){.cells{grid-template-columns:1fr}.cells div{border-left:0;border-top:1px solid var(--line)}}
"""
_CLASS = {"better": "g", "worse": "r", "no difference": "b", "undecided": "b"}
_WIDTH, _HEIGHT = 220, 18


def to_html(evaluation: Evaluation) -> str:
    """Return the page; every text of the data and of the models is escaped."""
    outcome = evaluation.outcome
    sentence = _sentence(evaluation)
    cost = (
        "" if evaluation.usd_per_1000 is None else f" · ${evaluation.usd_per_1000:.2f} per 1,000 answers at this rate"
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(evaluation.tuned)} against {escape(evaluation.base)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(evaluation.tuned)} against {escape(evaluation.base)}</h1>",
        f'<p><span class="verdict {outcome.split()[0]}">{outcome}</span> {sentence}</p>',
        f"<p class=quiet>{len(evaluation.pairs)} held-out questions{cost}</p>",
        f"<p class=quiet>{_made(evaluation)}</p>",
        *(f"<p class=quiet>{escape(note)}</p>" for note in evaluation.notes),
        "<h2>Metrics</h2>",
        _table(evaluation.metrics),
        "<h2>Latency</h2>",
        f"<p>{evaluation.latency.base:.2f} s → {evaluation.latency.tuned:.2f} s to a whole answer, difference "
        f"{evaluation.latency.mean:+.2f} s ({evaluation.latency.low:+.2f} to {evaluation.latency.high:+.2f})</p>",
    ]
    parts += _likelihood(evaluation.likelihood, evaluation.likelihood_missing)
    if evaluation.judgement is not None:
        parts += _judgement(evaluation.judgement)
    if evaluation.slices:
        parts.append("<h2>Slices</h2>")
        for label, metrics in evaluation.slices.items():
            parts.append(
                f"<p><b>{escape(label)}</b> <span class=quiet>{metrics['chrF'].questions} questions</span></p>"
            )
            parts.append(_table(metrics))
            if label in evaluation.slice_losses:
                parts.append(_table({"loss per token": evaluation.slice_losses[label]}, digits=3))
    metric = evaluation.primary if evaluation.primary in evaluation.metrics else next(iter(evaluation.metrics))
    parts.append(f"<h2>Answers, side by side</h2><p class=quiet>Where {escape(metric)} fell most, first.</p>")
    verdicts = evaluation.judgement.verdicts if evaluation.judgement else (None,) * len(evaluation.pairs)
    ordered = sorted(
        zip(evaluation.pairs, verdicts, strict=True),
        key=lambda item: item[0].tuned_scores[metric] - item[0].base_scores[metric],
    )
    parts += [_pair(pair, metric, verdict) for pair, verdict in ordered]
    return "\n".join(parts) + "</html>\n"


def _made(evaluation: Evaluation) -> str:
    """Return when and by what the page was made, and how the models were asked."""
    now = datetime.datetime.now(datetime.UTC)
    asked = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in evaluation.settings.items())
    made = f"Made on {now:%Y-%m-%d %H:%M} UTC by open-model-tuning {version(NAME)}"
    return f"{made}; asked with {asked}." if asked else f"{made}."


def _sentence(evaluation: Evaluation) -> str:
    main = evaluation.decisive
    if main is None:
        return f"{evaluation.primary} could not be measured"
    digits = 3 if evaluation.primary == LOSS else 1
    name = "win rate by the judge" if evaluation.primary == JUDGE else evaluation.primary
    return (
        f"{name} {main.base:.{digits}f} → {main.tuned:.{digits}f}, difference {main.mean:+.{digits}f} "
        f"({CONFIDENCE:.0%} interval {main.low:+.{digits}f} to {main.high:+.{digits}f})"
    )


def _likelihood(found: Likelihood | None, missing: str) -> list[str]:
    heading = "<h2>Loss and perplexity of the references</h2>"
    if found is None:
        return [heading, f"<p class=quiet>Not measured: {escape(missing)}.</p>"]
    before, after = found.perplexity
    return [
        heading,
        _table({"loss per token": found.difference}, digits=3),
        f"<p>Perplexity {before:,.2f} → {after:,.2f}, over {found.tokens:,} tokens. Lower is better.</p>",
    ]


def _judgement(found: Judgement) -> list[str]:
    rate = found.win_rate
    share = (
        "No verdict could be read."
        if rate is None
        else f"The tuned model wins {rate.tuned:.1f} % ({CONFIDENCE:.0%} interval {rate.low + 50:.1f} to "
        f"{rate.high + 50:.1f}), ties counting half: {found.outcome}."
    )
    cells = "".join(f"<tr><td>{label}<td class=n>{found.count(verdict)}" for verdict, label in VERDICTS.items())
    return [
        f"<h2>Judged by {escape(found.judge)}</h2>",
        f"<p>{share} Each pair was shown in both orders; order-dependent verdicts count as ties.</p>",
        f"<div class=scroll><table><tr><th>verdict<th class=n>questions{cells}</table></div>",
    ]


def _table(metrics: dict[str, Difference], *, digits: int = 1) -> str:
    widest = max(max(abs(item.low), abs(item.high)) for item in metrics.values()) or 1.0
    rows = [
        f"<tr><td>{escape(name)}<td><b>{item.outcome}</b>"
        f"<td class=n>{item.base:.{digits}f}<td class=n>{item.tuned:.{digits}f}"
        f"<td class=n>{item.mean:+.{digits}f}<td class=n>{item.low:+.{digits}f} … {item.high:+.{digits}f}"
        f"<td>{_bar(item, widest, digits)}"
        for name, item in metrics.items()
    ]
    head = (
        "<tr><th>metric<th>verdict<th class=n>base<th class=n>tuned<th class=n>difference"
        f"<th class=n>{CONFIDENCE:.0%} interval<th>"
    )
    return f"<div class=scroll><table>{head}{''.join(rows)}</table></div>"


def _bar(item: Difference, widest: float, digits: int) -> str:
    """Draw the interval on a line whose middle is zero."""

    def place(value: float) -> float:
        return _WIDTH / 2 + value / widest * (_WIDTH / 2 - 6)

    middle, kind = _HEIGHT / 2, _CLASS[item.outcome]
    return (
        f'<svg width={_WIDTH} height={_HEIGHT} role=img aria-label="{item.low:+.{digits}f} to {item.high:+.{digits}f}">'
        f"<line class=zero x1={_WIDTH / 2} x2={_WIDTH / 2} y1=0 y2={_HEIGHT} />"
        f"<line class={kind} stroke-width=2 x1={place(item.low):.1f} x2={place(item.high):.1f}"
        f" y1={middle} y2={middle} />"
        f"<circle class={kind} cx={place(item.mean):.1f} cy={middle} r=4 /></svg>"
    )


def _pair(pair: Pair, metric: str, verdict: Verdict | None) -> str:
    question = pair.question
    label = f" · {escape(question.label)}" if question.label else ""
    judged = f" · judge: {VERDICTS[verdict]}" if verdict else ""
    change = pair.tuned_scores[metric] - pair.base_scores[metric]
    return (
        f"<section class=pair><header><span>{escape(question.text)}</span>"
        f"<span class=quiet>line {question.line}{label} · {escape(metric)} {change:+.1f}{judged}</span></header>"
        "<div class=cells>"
        f"<div><b>reference</b>{escape(question.reference)}</div>"
        f"<div><b>base · {pair.base_scores[metric]:.1f}</b>{_text(pair.base, cut=pair.base_cut)}</div>"
        f"<div><b>tuned · {pair.tuned_scores[metric]:.1f}</b>{_text(pair.tuned, cut=pair.tuned_cut)}</div></div>"
        "</section>"
    )


def _text(answer: str, *, cut: bool) -> str:
    text = escape(answer) if answer.strip() else "<i>blank</i>"
    return f"{text}<br><i class=quiet>cut off at the limit of tokens</i>" if cut else text
