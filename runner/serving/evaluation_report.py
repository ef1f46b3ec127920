"""An evaluation as a page: a separate file, or a part of another page."""

from __future__ import annotations

from runner.design import document
from runner.design.elements import Content, Html, Tile, chip, element, folded, joined, markup, table, tiles
from runner.prices import amount
from runner.serving.differences import CONFIDENCE, Difference
from runner.serving.evaluation import JUDGE, LOSS, Evaluation, Pair
from runner.serving.judging import VERDICTS, Judgement, Verdict
from runner.serving.likelihood import Likelihood
from runner.wording import counted

KINDS = {"better": "good", "worse": "bad", "no difference": "over", "undecided": "waiting"}
"""The text for each verdict."""
_BOXES = {"better": "good", "worse": "bad", "no difference": "", "undecided": "warn"}
_HEADINGS = ("Metric", "Verdict", "Base", "Tuned", "Difference", f"{CONFIDENCE:.0%} interval", "")
_WIDTH, _HEIGHT = 220, 18


def to_html(evaluation: Evaluation) -> str:
    """Return the page as a file."""
    title = f"{evaluation.tuned} against {evaluation.base}"
    return document.page(title, element("h1", element("bdi", title)), sections(evaluation))


def sections(evaluation: Evaluation) -> Html:
    """Return the contents below the title: verdict, metrics, answers side by side."""
    asked = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in evaluation.settings.items())
    parts = [
        _verdict(evaluation),
        document.made(
            f"{counted(len(evaluation.pairs), 'held-out question')}, asked",
            when=evaluation.made,
            settings=f"asked with {asked}" if asked else "",
        ),
        tiles(_numbers(evaluation), "Numbers"),
        *(element("p", note, class_="notice warn") for note in evaluation.notes),
        element("h2", "Metrics"),
        _table(evaluation.metrics),
        *_likelihood(evaluation.likelihood, evaluation.likelihood_missing),
    ]
    if evaluation.judgement is not None:
        parts += _judgement(evaluation.judgement)
    if evaluation.slices:
        parts.append(element("h2", "Slices"))
        for label, metrics in evaluation.slices.items():
            number = counted(metrics["chrF"].questions, "question")
            parts.append(element("h3", element("bdi", label), " ", element("span", number, class_="dim")))
            parts.append(_table(metrics))
            if label in evaluation.slice_losses:
                parts.append(_table({"loss per token": evaluation.slice_losses[label]}, digits=3))
    return joined([*parts, _answers(evaluation)])


def _verdict(evaluation: Evaluation) -> Html:
    outcome = evaluation.outcome
    words = f"The tuned model is {outcome}" if outcome in ("better", "worse") else outcome.capitalize()
    inner = element("p", element("strong", words), " ", _sentence(evaluation))
    kind = f"notice verdict {_BOXES[outcome]}".strip()
    return element("section", inner, class_=kind, aria_label="Verdict")


def _sentence(evaluation: Evaluation) -> str:
    main = evaluation.decisive
    if main is None:
        return f"{evaluation.primary} could not be measured."
    digits = 3 if evaluation.primary == LOSS else 1
    name = "win rate by the judge" if evaluation.primary == JUDGE else evaluation.primary
    return (
        f"By {name}: {main.base:.{digits}f} → {main.tuned:.{digits}f}, difference {main.mean:+.{digits}f} "
        f"({CONFIDENCE:.0%} interval {main.low:+.{digits}f} to {main.high:+.{digits}f})."
    )


def _numbers(evaluation: Evaluation) -> list[Tile]:
    wait = evaluation.latency
    interval = f"base {wait.base:.2f} s, difference {wait.low:+.2f} to {wait.high:+.2f}"
    found = [
        Tile("Questions", f"{len(evaluation.pairs):,}", "that neither has seen"),
        Tile("Time to a whole answer", f"{wait.tuned:.2f} s", interval),
    ]
    cut = sum(pair.tuned_cut for pair in evaluation.pairs)
    cut_base = sum(pair.base_cut for pair in evaluation.pairs)
    if cut or cut_base:
        found.append(Tile("Answers cut off", f"{cut:,}", f"of the tuned model; {cut_base:,} of the base"))
    if evaluation.usd_per_1000 is not None:
        found.append(Tile("1,000 answers", amount(evaluation.usd_per_1000), "at this rate"))
    return found


def _likelihood(found: Likelihood | None, missing: str) -> list[Html]:
    heading = element("h2", "Loss and perplexity of the references")
    if found is None:
        return [heading, element("p", f"Not measured: {missing}.", class_="dim")]
    before, after = found.perplexity
    sentence = f"Perplexity {before:,.2f} → {after:,.2f}, over {found.tokens:,} tokens. Lower is better."
    return [heading, _table({"loss per token": found.difference}, digits=3), element("p", sentence)]


def _judgement(found: Judgement) -> list[Html]:
    rate = found.win_rate
    share = (
        "No verdict could be read."
        if rate is None
        else f"The tuned model wins {rate.tuned:.1f}% ({CONFIDENCE:.0%} interval {rate.low + 50:.1f} to "
        f"{rate.high + 50:.1f}), ties counting half: {found.outcome}."
    )
    rows: list[list[Content]] = [[label, found.count(verdict)] for verdict, label in VERDICTS.items()]
    return [
        element("h2", "Judged by ", element("bdi", found.judge)),
        element("p", f"{share} Each pair was shown in both orders; order-dependent verdicts count as ties."),
        table(["Verdict", "Questions"], rows, label="Verdicts of the judge", numbers=(1,)),
    ]


def _table(metrics: dict[str, Difference], *, digits: int = 1) -> Html:
    widest = max(max(abs(item.low), abs(item.high)) for item in metrics.values()) or 1.0
    rows: list[list[Content]] = [
        [
            name,
            chip(KINDS[item.outcome], item.outcome),
            f"{item.base:.{digits}f}",
            f"{item.tuned:.{digits}f}",
            f"{item.mean:+.{digits}f}",
            f"{item.low:+.{digits}f} … {item.high:+.{digits}f}",
            _interval(item, widest),
        ]
        for name, item in metrics.items()
    ]
    return table(_HEADINGS, rows, label=", ".join(metrics), numbers=(2, 3, 4, 5))


def _interval(item: Difference, widest: float) -> Html:
    """Draw the interval on a line with zero in the middle; the numbers are beside it."""

    def place(value: float) -> float:
        return round(_WIDTH / 2 + value / widest * (_WIDTH / 2 - 6), 1)

    middle = _HEIGHT / 2
    return element(
        "svg",
        element("line", class_="zero", x1=_WIDTH / 2, x2=_WIDTH / 2, y1=0, y2=_HEIGHT),
        element("line", x1=place(item.low), x2=place(item.high), y1=middle, y2=middle, stroke_width=2),
        element("circle", cx=place(item.mean), cy=middle, r=4),
        width=_WIDTH,
        height=_HEIGHT,
        aria_hidden="true",
        class_=f"interval {KINDS[item.outcome]}",
    )


def _answers(evaluation: Evaluation) -> Html:
    metric = evaluation.primary if evaluation.primary in evaluation.metrics else next(iter(evaluation.metrics))
    verdicts = evaluation.judgement.verdicts if evaluation.judgement else (None,) * len(evaluation.pairs)
    ordered = sorted(
        zip(evaluation.pairs, verdicts, strict=True),
        key=lambda item: item[0].tuned_scores[metric] - item[0].base_scores[metric],
    )
    heading = element("h2", "Answers, side by side")
    order = element("p", f"Where {metric} fell most, first.", class_="dim")
    limit = evaluation.settings.get("max_tokens")
    pairs = [_pair(pair, metric, verdict, limit) for pair, verdict in ordered]
    first, rest = pairs[:_OPEN], pairs[_OPEN:]
    more = folded(f"{len(rest):,} more", *rest) if rest else Html()
    return joined((heading, order, *first, more))


_OPEN = 50
"""Number of answers that are expanded; the others are collapsed."""


def _pair(pair: Pair, metric: str, verdict: Verdict | None, limit: float | None) -> Html:
    question = pair.question
    label = f" · {question.label}" if question.label else ""
    judged = f" · judge: {VERDICTS[verdict]}" if verdict else ""
    change = pair.tuned_scores[metric] - pair.base_scores[metric]
    about = f"line {question.line}{label} · {metric} {change:+.1f}{judged}"
    header = element("header", element("p", question.text), element("p", about, class_="dim"))
    cells = (
        _cell("Reference", question.reference),
        _cell(f"Base · {pair.base_scores[metric]:.1f}", pair.base, cut=pair.base_cut, limit=limit),
        _cell(f"Tuned · {pair.tuned_scores[metric]:.1f}", pair.tuned, cut=pair.tuned_cut, limit=limit),
    )
    return element("section", header, element("div", *cells, class_="cells"), class_="pair")


def _cell(title: str, answer: str, *, cut: bool = False, limit: float | None = None) -> Html:
    words = "cut off" if limit is None else f"cut off at {limit:,.0f} tokens"
    mark = joined((" ", chip("waiting", words))) if cut else Html()
    said = element("p", markup(answer) if answer.strip() else element("em", "blank"))
    return element("div", element("h4", title, mark), said, tabindex=0, role="region", aria_label=title)
