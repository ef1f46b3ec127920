"""Check that a deployed model matches the trained one, before it gets traffic.

The prompts are examples of the training data, sent like those of a client, so that the endpoint's own template is used.
The checks:

- `weights`: the model's artifacts are those that were to be deployed.
- `template`: it renders each prompt to the same tokens as training.
- `answers`: it answers, and neither refuses nor drops a system message.
- `adapter`: its answers are not all equal to those of its base.
- `training`: its answers are not further from the training answers than those of its base.
- `stops`: its answers end by themselves, if those of its base do.

The last three need the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner.errors import GateFailedError, GoogleApiError
from runner.gcp import deployed, endpoints
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session
from runner.serving.differences import bootstrap
from runner.serving.evaluation import Question
from runner.serving.rendering import TrainingTemplate, training_template
from runner.serving.respondents import Respondent
from runner.serving.saga import Check
from runner.serving.scores import chrf
from runner.wording import counted

_ANSWER_TOKENS = 64
_SYSTEM = {"role": "system", "content": "You answer briefly."}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityFinding:
    """The result of one check."""

    check: str
    state: Literal["ok", "failed", "unknown"]
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        return {"check": self.check, "state": self.state, "message": self.message}


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    stopped: bool
    prompt_tokens: int | None = None
    """Number of tokens of the prompt, as reported by the server."""
    prompt: tuple[int, ...] | None = None
    """IDs of the tokens except the first, if the server reports them."""


def check_parity(
    session: Session,
    endpoint: Endpoint,
    model: DeployedModel,
    questions: Sequence[Question],
    *,
    source: str = "",
    base_model: str | None = None,
    template: TrainingTemplate | None = None,
) -> list[ParityFinding]:
    """Return the result of each check.

    Args:
        session: the project and location.
        endpoint: the endpoint of the model.
        model: the model, which needs no traffic.
        questions: some 5 to 20 examples of its training data.
        source: `gs://` folder that was to be deployed; "" if unknown, and then the template of the deployed model is
            used.
        base_model: name of the base as a model that Google manages; None omits the comparisons.
        template: the template of the training; None reads it from the source.

    Raises:
        GoogleApiError: the model cannot be addressed individually, as on Google's shared endpoints, or the base does
            not answer.
    """
    deployed_from = str(endpoints.get_model(session, model.model).get("artifactUri", "")) if model.model else ""
    findings = [_weights(deployed_from, source)]
    tuned = [_ask(session, endpoint, model, question.messages) for question in questions]
    why = ""
    if template is None:
        template, why = training_template(session, source or deployed_from)
    findings.append(_unknown("template", why) if template is None else _template(template, questions, tuned))
    findings.append(_answers(session, endpoint, model, questions, tuned))
    if base_model is None:
        why = "no base was given to compare with"
        return [*findings, *(_unknown(name, why) for name in _COMPARED)]
    base = [_ask_base(session, base_model, question.messages) for question in questions]
    return [*findings, _adapter(base, tuned), _training(questions, base, tuned), _stops(base, tuned)]


def parity_check(
    session: Session,
    questions: Sequence[Question],
    *,
    source: str = "",
    base_model: str | None = None,
    template: TrainingTemplate | None = None,
    found: list[ParityFinding] | None = None,
) -> Check:
    """Return the `check` argument for `deploy`, which raises GateFailedError. Results are appended to `found`."""

    def check(endpoint: Endpoint, model: DeployedModel) -> None:
        findings = check_parity(
            session, endpoint, model, questions, source=source, base_model=base_model, template=template
        )
        if found is not None:
            found.extend(findings)
        require(findings, endpoint)

    return check


def require(findings: Sequence[ParityFinding], endpoint: Endpoint) -> None:
    """Return normally unless a check failed. Raises GateFailedError."""
    failed = [f"{item.check}: {item.message}" for item in findings if item.state == "failed"]
    if failed:
        raise GateFailedError(
            f"what endpoint {endpoint.id} serves is not what was trained: {'; '.join(failed)}",
            hint=f"it has no traffic from this deployment; `runner endpoints undeploy {endpoint.id}` ends its billing",
        )


_COMPARED = ("adapter", "training", "stops")


def _unknown(check: str, why: str) -> ParityFinding:
    return ParityFinding(check=check, state="unknown", message=why)


def _found(check: str, message: str, *, failed: bool) -> ParityFinding:
    return ParityFinding(check=check, state="failed" if failed else "ok", message=message)


def _template(template: TrainingTemplate, questions: Sequence[Question], tuned: Sequence[_Answer]) -> ParityFinding:
    """Compare the tokens of the prompts if the server reports them, otherwise their number."""
    counted = told = 0
    for question, answer in zip(questions, tuned, strict=True):
        expected = template.tokens(question.messages)
        if expected is None or answer.prompt_tokens is None:
            continue
        counted += 1
        if answer.prompt_tokens != len(expected):
            message = (
                f"it makes {answer.prompt_tokens} tokens of the prompt of line {question.line}, training "
                f"{len(expected)}: another chat template or tokenizer"
            )
            return _found("template", message, failed=True)
        if answer.prompt is not None:
            told += 1
            if list(answer.prompt) != expected[1:]:
                message = f"it makes other tokens of the prompt of line {question.line} than training, as many"
                return _found("template", message, failed=True)
    if not counted:
        return _unknown("template", "the prompts are not texts, or the server does not count their tokens")
    how = "the tokens that training made" if told == counted else "as many tokens as training made"
    return _found("template", f"{counted} prompts have {how}", failed=False)


def _weights(found: str, source: str) -> ParityFinding:
    if not source:
        return _unknown("weights", f"nothing says where they should be from; they are from {found or 'somewhere'}")
    if not found:
        return _unknown("weights", "the service does not say where they are from")
    same = found.rstrip("/") == source.rstrip("/")
    message = f"from {found}" if same else f"they are from {found}, not from {source}"
    return _found("weights", message, failed=not same)


def _answers(
    session: Session,
    endpoint: Endpoint,
    model: DeployedModel,
    questions: Sequence[Question],
    tuned: Sequence[_Answer],
) -> ParityFinding:
    empty = [question.line for question, answer in zip(questions, tuned, strict=True) if not answer.text.strip()]
    if len(empty) * 2 > len(questions):
        return _found("answers", f"{len(empty)} of {len(questions)} answers are empty", failed=True)
    first = [message for message in questions[0].messages if message.get("role") != "system"]
    try:
        without = _ask(session, endpoint, model, first)
        instructed = _ask(session, endpoint, model, [_SYSTEM, *first])
    except GoogleApiError as error:
        return _found("answers", f"a system message is refused: {error.message}", failed=True)
    if instructed.prompt_tokens is not None and instructed.prompt_tokens == without.prompt_tokens:
        return _found("answers", "a system message is dropped from the prompt", failed=True)
    return _found("answers", f"{counted(len(tuned), 'answer')}, and one with a system message", failed=False)


def _adapter(base: Sequence[_Answer], tuned: Sequence[_Answer]) -> ParityFinding:
    same = sum(one.text == other.text for one, other in zip(base, tuned, strict=True))
    message = f"{same} of {len(tuned)} answers are the base's, word for word"
    return _found("adapter", message, failed=same == len(tuned))


def _training(questions: Sequence[Question], base: Sequence[_Answer], tuned: Sequence[_Answer]) -> ParityFinding:
    def scores(answers: Sequence[_Answer]) -> list[float]:
        return [chrf(answer.text, question.reference) for question, answer in zip(questions, answers, strict=True)]

    found = bootstrap(scores(base), scores(tuned))
    outcome = found.outcome
    message = f"chrF to the training answers {found.tuned:.1f}, the base's {found.base:.1f}: {outcome}"
    return _found("training", message, failed=outcome == "worse")


def _stops(base: Sequence[_Answer], tuned: Sequence[_Answer]) -> ParityFinding:
    own, other = sum(answer.stopped for answer in tuned), sum(answer.stopped for answer in base)
    message = f"it ended {own} of {len(tuned)} answers by itself, its base {other}"
    return _found("stops", message, failed=own == 0 and 2 * other >= len(base))


def _ask(session: Session, endpoint: Endpoint, model: DeployedModel, messages: Sequence[Mapping[str, Any]]) -> _Answer:
    sampling = {"temperature": 0.0, "max_tokens": _ANSWER_TOKENS}
    try:
        body = deployed.ask_deployed_model(session, endpoint, model.id, messages, prompt_logprobs=0, **sampling)
    except GoogleApiError as error:
        if error.status != "INVALID_ARGUMENT":
            raise
        # The server may not know vLLM's own field; any other error also occurs without it.
        body = deployed.ask_deployed_model(session, endpoint, model.id, messages, **sampling)
    choice = (body.get("choices") or [{}])[0]
    text = str((choice.get("message") or {}).get("content") or "")
    counted = (body.get("usage") or {}).get("prompt_tokens")
    return _Answer(
        text,
        choice.get("finish_reason") == "stop",
        counted if isinstance(counted, int) else None,
        _prompt(body.get("prompt_logprobs")),
    )


def _prompt(places: Any) -> tuple[int, ...] | None:
    """Return the IDs of vLLM's `prompt_logprobs` except the first; None for another form."""
    try:
        return tuple(int(next(iter(place))) for place in places[1:])
    except (TypeError, ValueError, StopIteration):
        return None


def _ask_base(session: Session, name: str, messages: Sequence[Mapping[str, Any]]) -> _Answer:
    base = Respondent(name=name, model=name)
    answer = base.chat(session, messages, temperature=0.0, max_tokens=_ANSWER_TOKENS)
    return _Answer(answer.text, answer.finish_reason == "stop")
