"""One record of every shape that is known, for tests that sweep over all of them."""

from __future__ import annotations

import base64
from typing import Any

from tests.datasets.examples import png

DATA_URL = "data:image/png;base64," + base64.b64encode(png(4, 3)).decode()

CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": "{}"}}

SHAPES: dict[str, Any] = {
    "pair": {"prompt": "What floats?", "completion": "Wood."},
    "chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What floats?", "name": "ann"},
            {"role": "assistant", "content": "Wood."},
        ]
    },
    "contents": {
        "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What floats?"}]},
            {"role": "model", "parts": [{"text": "Wood."}]},
        ],
    },
    "chat with an image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "gs://bucket/a.png", "detail": "low"}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
            {"role": "assistant", "content": "A boat."},
        ]
    },
    "contents with an image": {
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"file_data": {"mime_type": "image/png", "file_uri": "gs://bucket/a.png"}},
                    {"text": "What is it?"},
                ],
            },
            {"role": "model", "parts": [{"text": "A boat."}]},
        ]
    },
    "system beside": {
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "What floats?"}, {"role": "assistant", "content": "Wood."}],
    },
    "system beside a pair": {"system": "Be brief.", "prompt": "What floats?", "completion": "Wood."},
    "images beside": {
        "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A boat."}],
        "images": ["gs://bucket/a.png"],
    },
    "weights": {
        "messages": [
            {"role": "user", "content": "What floats?"},
            {"role": "assistant", "content": "Wood.", "weight": 1},
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": "Cork.", "weight": 0},
        ]
    },
    "tool calls": {
        "messages": [
            {"role": "user", "content": "Tide?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "high"},
            {"role": "assistant", "content": "High."},
        ],
        "tools": [{"type": "function", "function": {"name": "tide"}}],
    },
    "reasoning": {
        "messages": [
            {"role": "user", "content": "What floats?"},
            {"role": "assistant", "content": "Wood.", "reasoning_content": "It is light."},
        ]
    },
    "ShareGPT": {
        "id": "x1",
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "What floats?"}, {"from": "gpt", "value": "Wood."}],
    },
    "Alpaca": {
        "instruction": "Sum up.",
        "input": "The boat is late.",
        "output": "Late boat.",
        "history": [["What floats?", "Wood."]],
        "system": "Be brief.",
    },
    "Dolly": {"instruction": "Sum up.", "context": "The boat is late.", "response": "Late boat.", "category": "sum"},
    "lists for each key of a turn": {
        "id": "x1",
        "conversations": {"from": ["human", "gpt"], "value": ["What floats?", "Wood."]},
    },
    "question and answer": {"question": "What floats?", "answer": "Wood.", "source": "harbour", "score": 3},
    "text-bison": {"input_text": "What floats?", "output_text": "Wood."},
    "conversational pair": {
        "prompt": [{"role": "user", "content": "What floats?"}],
        "completion": [{"role": "assistant", "content": "Wood."}],
    },
    "chosen and rejected": {"prompt": "What floats?", "chosen": "Wood.", "rejected": "Iron."},
    "messages as a text": {
        "messages": '[{"role": "user", "content": "What floats?"}, {"role": "assistant", "content": "Wood."}]'
    },
    "Anthropic": {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What floats?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Wood."}]},
        ],
    },
    "inline image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
            {"role": "assistant", "content": "A boat."},
        ]
    },
    "LLaVA": {
        "id": 7,
        "image": DATA_URL,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A boat."},
            {"from": "human", "value": "And now?"},
            {"from": "gpt", "value": "Still a boat."},
        ],
    },
    "images in two turns": {
        "messages": [
            {"role": "user", "content": "<image>What is it?"},
            {"role": "assistant", "content": "A boat."},
            {"role": "user", "content": "And <image>?"},
            {"role": "assistant", "content": "A raft."},
        ],
        "images": ["gs://bucket/a.png", {"bytes": None, "path": "gs://bucket/b.png"}],
    },
    "image parts without addresses": {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A boat."}]},
        ],
        "images": ["gs://bucket/a.png"],
    },
    "strings as content": {
        "messages": [
            {"role": "user", "content": ["What ", "floats?"]},
            {"role": "assistant", "content": ["Wood."]},
        ]
    },
    "pairs as texts": {"instruction": "Sum up.", "output": "Late.", "history": '[["What floats?", "Wood."]]'},
    "prompt with parts": {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What floats?"}],
        "completion": "Wood.",
        "images": [],
    },
    "label": {"text": "I like it", "label": 1},
    "misspelt": {"mesages": [{"rol": "usr", "contnt": "What floats?"}, {"role": "asistant", "content": "Wood."}]},
}
