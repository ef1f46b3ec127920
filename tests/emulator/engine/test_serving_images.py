"""Pictures in chat completions: seen, or refused with the reason."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource
from tests.emulator.engine.serving_processes import Served, served

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def images_server(launcher: Launcher, model_cache: Path) -> Iterator[Served]:
    with served(launcher, ModelSource(kind="tiny", family="llama4"), model_cache) as server:
        yield server


def picture(colour: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 60), colour).save(buffer, "PNG")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"},
    }


def about(*parts: dict[str, Any]) -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 8,
        "seed": 1,
        "logprobs": True,
        "ignore_eos": True,
    }


def test_images_are_seen(images_server: Served) -> None:
    def first_logprob(*parts: dict[str, Any]) -> tuple[float, int]:
        answer = images_server.post("/chat/completions", {**about(*parts), "temperature": 0})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return body["choices"][0]["logprobs"]["content"][0]["logprob"], body["usage"]["prompt_tokens"]

    nothing, without = first_logprob()
    red, with_one = first_logprob(picture("red"))
    blue, _ = first_logprob(picture("blue"))
    _, with_two = first_logprob(picture("red"), picture("blue"))
    assert len({nothing, red, blue}) == 3
    assert with_two - with_one == with_one - without > 10
    assert first_logprob(picture("red"))[0] == red


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/cat.png", "image_url must be a data: URL, got gs: this server fetches nothing"),
        ("https://example.com/cat.png", "image_url must be a data: URL, got https: this server fetches nothing"),
        ("data:image/png,abc", "image_url must be base64"),
        ("data:image/png;base64,!!", "image_url holds no readable image"),
        ("data:image/png;base64,AAAA", "image_url holds no readable image"),
        (None, "image_url must be a data: URL, got None"),
    ],
)
def test_images_that_cannot_be_used(images_server: Served, url: str | None, message: str) -> None:
    answer = images_server.post("/chat/completions", about({"type": "image_url", "image_url": {"url": url}}))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"messages[0].content[0]: {message}")
