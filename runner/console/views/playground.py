"""Chat with a deployed model, and with another one beside it."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runner.catalog import models
from runner.console import following
from runner.console.state import Console, text
from runner.errors import ConfigurationError, RunnerError, gathered, require_sound
from runner.gcp import prediction
from runner.gcp.endpoints import Endpoint, own_base
from runner.json_text import parsed

PARAMETERS = {
    "max_tokens": (int, 200.0, 1.0, 8192.0),
    "temperature": (float, 1.0, 0.0, 2.0),
    "top_p": (float, 1.0, 0.0, 1.0),
    "top_k": (int, None, 1.0, 1000.0),
    "seed": (int, None, 0.0, 2.0**31),
}
"""Type, default of the specification, minimum and maximum."""
_PICTURES = ("image/jpeg", "image/png", "image/webp")
_PICTURE_BYTES = 20 * 2**20


def page(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Show the form."""
    return _page(console, request, given, error=error, asked=given.get("question", ""))


def _page(
    console: Console,
    request: Request,
    given: Mapping[str, str],
    *,
    error: dict[str, Any] | None = None,
    said: dict[str, Any] | None = None,
    asked: str = "",
) -> Response:
    endpoint = following.endpoint_named(console, request.path_params["id"])
    tuned_from = following.base_of(console, endpoint)
    images = any(model.images and model.id == tuned_from for model in models())
    return console.pages.answer(
        request,
        "endpoints/playground.html",
        endpoint=endpoint,
        parameters=PARAMETERS,
        given=given,
        error=error,
        said=said or {},
        asked=asked,
        base=given.get("base", ""),
        tuned_from=tuned_from,
        images=images,
        others=[item.endpoint for item in following.endpoints(console).value if item.billed],
        address=_address(console, endpoint),
    )


def ask(console: Console, request: Request, form: FormData) -> Response:
    """Answer a question: streamed to the page's script, complete for a page without a script."""
    endpoint = following.endpoint_named(console, request.path_params["id"])
    other = text(form, "base")
    streamed = request.headers.get("accept", "").startswith("text/event-stream")
    problems: list[str] = []
    with gathered(problems):
        sampling = _sampling(form)
    with gathered(problems):
        messages = _messages(form)
    if problems and streamed:
        return StreamingResponse(iter([_event({"error": "; ".join(problems)})]), media_type="text/event-stream")
    require_sound(problems)
    if streamed:
        whom = other if text(form, "whom") == "base" else ""
        return StreamingResponse(_stream(console, endpoint, whom, messages, sampling), media_type="text/event-stream")
    said: dict[str, Any] = {"question": text(form, "question")}
    for name, whom in (("answer", ""), ("base_answer", other)):
        if name == "base_answer" and not other:
            continue
        try:
            answer = "".join(chunk.text for chunk in _chunks(console, endpoint, whom, messages, sampling))
            said[name] = answer or "(nothing)"
        except RunnerError as error:
            said[f"{name}_error"] = error.message
    return _page(console, request, {name: text(form, name) for name in form}, said=said)


def _sampling(form: FormData) -> dict[str, Any]:
    found: dict[str, Any] = {}
    problems = []
    for name, (kind, _, least, most) in PARAMETERS.items():
        given = text(form, name)
        if not given:
            continue
        try:
            value = kind(given)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            problems.append(f"{name}: {given[:20]!r} is not a number from {least:g} to {most:g}")
        else:
            found[name] = value
    require_sound(problems)
    return found


def _messages(form: FormData) -> list[dict[str, Any]]:
    question = text(form, "question")
    pictures = [item for item in form.getlist("picture") if isinstance(item, UploadFile) and item.filename]
    if not question and not pictures:
        raise ConfigurationError("the question is empty")
    content: Any = question
    if pictures:
        content = [*(_picture(item) for item in pictures), {"type": "text", "text": question}]
    before: list[dict[str, Any]] = []
    try:
        history = parsed(text(form, "history") or "[]")
    except ValueError:
        history = []
    for item in history if isinstance(history, list) else []:
        if (
            isinstance(item, dict)
            and item.get("role") in ("user", "assistant")
            and isinstance(item.get("content"), str)
        ):
            before.append({"role": item["role"], "content": item["content"]})
    system = text(form, "system")
    return [*([{"role": "system", "content": system}] if system else []), *before, {"role": "user", "content": content}]


def _picture(sent: UploadFile) -> dict[str, Any]:
    kind = sent.content_type or ""
    content = sent.file.read(_PICTURE_BYTES + 1)
    if kind not in _PICTURES or len(content) > _PICTURE_BYTES:
        raise ConfigurationError(f"{(sent.filename or '')[:80]}: pictures are JPEG, PNG or WebP of at most 20 MiB")
    url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _chunks(
    console: Console, endpoint: Endpoint, whom: str, messages: list[dict[str, Any]], sampling: dict[str, Any]
) -> Iterator[prediction.ChatChunk]:
    """Send a request to the endpoint, or to `whom`: another endpoint's name, or a model that Google manages."""
    if whom.startswith("projects/"):
        other = prediction.resolve_endpoint(console.session, whom)
        return prediction.chat(console.session, endpoint=other, messages=messages, stream=True, **sampling)
    if whom:
        return prediction.chat(console.session, model=whom, messages=messages, stream=True, **sampling)
    return prediction.chat(console.session, endpoint=endpoint, messages=messages, stream=True, **sampling)


def _stream(
    console: Console, endpoint: Endpoint, whom: str, messages: list[dict[str, Any]], sampling: dict[str, Any]
) -> Iterator[str]:
    try:
        for chunk in _chunks(console, endpoint, whom, messages, sampling):
            yield _event({"text": chunk.text, "finish": chunk.finish_reason})
        yield _event({"done": True})
    except RunnerError as error:
        yield _event({"error": error.message, "hint": error.hint})


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _address(console: Console, endpoint: Endpoint) -> dict[str, str]:
    """Return the request for copying, as curl, Python and a command line, with the placeholder QUESTION."""
    environment = console.session.environment
    base = own_base(environment, endpoint) or environment.vertex_base
    url = f"{base}/v1beta1/{endpoint.name}/chat/completions"
    local = environment.vertex_url is not None
    login = "" if local else ' \\\n  -H "Authorization: Bearer $(gcloud auth print-access-token)"'
    body = {"model": "", "messages": [{"role": "user", "content": "QUESTION"}], "max_tokens": 200}
    return {
        "curl": f"curl {shlex.quote(url)}{login} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}",
        "python": f"import runner\n\nendpoint = runner.get_endpoint({endpoint.id!r})\n"
        'print(endpoint.chat("QUESTION", max_tokens=200).text)',
        "evaluate": f"runner eval held_out.jsonl --endpoint {endpoint.id} --base-endpoint BASE --report report.html",
        "runner": f"runner chat --endpoint {endpoint.id} --max-tokens 200 'QUESTION'",
    }
