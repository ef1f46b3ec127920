"""Small datasets that a tiny stand-in learns by heart in seconds."""

from __future__ import annotations

import base64
import io
import json

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


def colours() -> str:
    """Return four pictures of one colour each, as chat with inline images."""
    rows = []
    for name, colour in COLOURS.items():
        buffer = io.BytesIO()
        Image.new("RGB", (56, 56), colour).save(buffer, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Which colour?"}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": name}]
        rows.append({"messages": turns})
    return "".join(json.dumps(row) + "\n" for row in rows)
