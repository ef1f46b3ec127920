"""Small datasets that a tiny stand-in learns by heart in seconds."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Peru": "Lima",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Egypt": "Cairo",
    "Cuba": "Havana",
    "Iraq": "Baghdad",
}
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


def capitals() -> str:
    """Return eight questions with answers, as prompt and completion."""
    rows = [{"prompt": f"Capital of {land}?", "completion": city} for land, city in CAPITALS.items()]
    return "".join(json.dumps(row) + "\n" for row in rows)


def picture(name: str) -> bytes:
    """Return a PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), COLOURS[name]).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(name: str) -> str:
    """Return the picture as a `data:` URL."""
    return f"data:image/png;base64,{base64.b64encode(picture(name)).decode()}"


def colours(urls: dict[str, str], *, text_only: int = 0) -> str:
    """Return one question about each picture, as chat, and some text-only examples, which the service drops."""
    rows: list[dict[str, Any]] = []
    for name, url in urls.items():
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "Which colour?"},
        ]
        rows.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": name}]})
    for number in range(text_only):
        turns = [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": str(number)}]
        rows.append({"messages": turns})
    return "".join(json.dumps(row) + "\n" for row in rows)
