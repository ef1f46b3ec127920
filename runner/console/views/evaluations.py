"""Evaluations: comparisons of a tuned model with its base on held-out questions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.console import following, state
from runner.console.changes import Change
from runner.console.elsewhere import call, in_lines
from runner.console.pages import address
from runner.console.state import Console
from runner.errors import ConfigurationError, gathered, require_sound
from runner.prices import total
from runner.serving import comparing, past_evaluations
from runner.serving.evaluation_report import KINDS, sections, to_html
from runner.serving.listing import describe
from runner.serving.questions import read_questions
from runner.serving.scores import METRICS

FIELDS = ("endpoint", "base", "questions", "metric", "limit")
_LOOKED_INTO = 8
"""Endpoints whose base models are proposed if none is selected."""
_DECIDERS = (*METRICS, "loss")


def page(console: Console, request: Request) -> Response:
    """Show the evaluations on this machine."""
    found = past_evaluations.past(console.session.environment)
    return console.pages.answer(request, "evaluations/list.html", past=found, kinds=KINDS)


def one(console: Console, request: Request) -> Response:
    """Show one."""
    identifier = request.path_params["id"]
    evaluation = past_evaluations.load(console.session.environment, identifier)
    return console.pages.answer(
        request, "evaluations/one.html", evaluation=evaluation, sections=sections(evaluation), id=identifier
    )


def export(console: Console, request: Request) -> Response:
    """Return one as a file."""
    identifier = request.path_params["id"]
    body = to_html(past_evaluations.load(console.session.environment, identifier))
    headers = {"content-disposition": f'attachment; filename="evaluation-{identifier}.html"'}
    return Response(body, headers=headers, media_type="text/html")


def new(console: Console, request: Request, sent: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Ask for the models and the questions."""
    serving = [item.endpoint for item in following.endpoints(console).value if item.billed]
    given = state.given(sent, FIELDS)
    chosen = [item for item in serving if item.id == given.get("endpoint")] or serving[:_LOOKED_INTO]
    bases = sorted({base for item in chosen if (base := following.base_of(console, item))})
    return console.pages.answer(
        request,
        "evaluations/new.html",
        given=dict.fromkeys(FIELDS, "") | given,
        serving=serving,
        bases=bases,
        deciders=_DECIDERS,
        bucket=console.session.environment.datasets_bucket,
        error=error,
    )


def upload(console: Console, request: Request, form: FormData) -> Response:
    """Store the questions, and redirect to the review."""
    given = state.given(form, FIELDS)
    problems: list[str] = []
    with gathered(problems):
        given["questions"] = console.uploads.sent(form, "questions_file") or given.get("questions", "")
        if not given["questions"]:
            problems.append("no questions were chosen")
    words = {"endpoint": "no tuned model was chosen", "base": "nothing to compare with was chosen"}
    problems += [said for name, said in words.items() if not given.get(name)]
    if given.get("endpoint") and given.get("endpoint") == given.get("base"):
        problems.append("the tuned model and what it is compared with are the same")
    with gathered(problems):
        _limit(given)
    require_sound(problems)
    return RedirectResponse(address("/evaluations/review", **given), 303)


def review(console: Console, request: Request) -> Response:
    """Show the number of questions and the price."""
    given = state.given(request.query_params, FIELDS)
    if any(name not in given for name in ("endpoint", "base", "questions")):
        return RedirectResponse(address("/evaluations/new", **given), 303)
    path = console.uploads.path(given["questions"])
    questions = read_questions(path, limit=_limit(given))
    tuned = following.endpoint_named(console, given["endpoint"])
    prices = [describe(tuned).usd_per_hour]
    base = following.endpoint_named(console, given["base"]) if _is_endpoint(console, given["base"]) else None
    if base is not None and base.id != tuned.id:
        prices.append(describe(base).usd_per_hour)
    return console.pages.answer(
        request,
        "evaluations/review.html",
        given=given,
        name=path.name,
        count=len(questions),
        tuned=tuned,
        base=base,
        usd_per_hour=total(prices),
        command=_command(given, path.name, base is not None),
        python=_python(given, path.name, base is not None),
        back=address("/evaluations/new", **given),
        once=console.changes.token("/evaluations/review"),
    )


def start(console: Console, request: Request, form: FormData) -> Response:
    """Send the questions to both models, and redirect to the result."""
    given = dict.fromkeys(FIELDS, "") | state.given(form, FIELDS)
    path = console.uploads.path(given["questions"])
    which: dict[str, Any] = {"base_model": given["base"]}
    if _is_endpoint(console, given["base"]):
        which = {"base_endpoint": given["base"]}

    def work(change: Change) -> str:
        change.tell("Asking both models")
        found = comparing.compare(
            console.session,
            path,
            endpoint=given["endpoint"],
            **which,
            metric=given.get("metric") or "chrF",
            limit=_limit(given),
            tell=change.tell,
            progress=change.counted,
        )
        return f"/evaluations/{past_evaluations.keep(console.session.environment, found)}"

    back = address("/evaluations/review", **given)
    return console.change(request, form, "The models were compared", work, back=back)


def _limit(given: dict[str, str]) -> int | None:
    number = given.get("limit", "")
    if not number:
        return None
    if not (limit := state.whole(number)):
        raise ConfigurationError(f"{number[:20]!r} is not a number of questions")
    return limit


def _is_endpoint(console: Console, name: str) -> bool:
    return any(item.endpoint.id == name for item in following.endpoints(console).value)


def _command(given: dict[str, str], name: str, deployed: bool) -> str:
    words = [f"runner eval {shlex.quote(name)}", f"--endpoint {shlex.quote(given['endpoint'])}"]
    words.append(f"--base-{'endpoint' if deployed else 'model'} {shlex.quote(given['base'])}")
    words += [f"--{key} {shlex.quote(given[key])}" for key in ("metric", "limit") if given.get(key)]
    return in_lines(*words, "--report report.html")


def _python(given: dict[str, str], name: str, deployed: bool) -> str:
    lines = [repr(name), f"endpoint={given['endpoint']!r}"]
    lines.append(f"base_{'endpoint' if deployed else 'model'}={given['base']!r}")
    lines += [f"metric={given['metric']!r}"] if given.get("metric") else []
    lines += [f"limit={given['limit']}"] if given.get("limit") else []
    return call("found", "evaluate", *lines)
