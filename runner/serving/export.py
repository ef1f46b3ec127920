"""Weights for other homes: checked, with instructions that can be copied.

Nothing is converted: what a job leaves is in the form of Hugging Face's `transformers`, which all of these read.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import ConfigurationError, require_sound
from runner.json_text import parsed
from runner.serving.stand_ins import StandIn, mismatch, of_folder
from runner.wording import camel_keys

INSTRUCTIONS = "HOW-TO-RUN.md"
_LARGEST_HEADER = 100 * 10**6
"""Bytes; what the safetensors format allows."""
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_WIDTHS |= {"U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
_UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a folder of weights holds."""

    architecture: str
    model_type: str
    tensors: int
    parameters: int
    images: bool
    """Whether it takes pictures."""
    adapter: bool
    """Whether the adapter lies beside the merged weights."""
    stand_in: StandIn | None = None
    """The small model that stood in for the base model; None for real weights."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return camel_keys({**body, "stand_in": self.stand_in.name if self.stand_in else None})


def inspect(directory: Path) -> Weights:
    """Return what a folder holds, its files checked: safetensors only, every tensor within its file.

    Raises:
        ConfigurationError: a file is missing, torn, or of a kind that runs code when it is loaded.
    """
    problems = [
        f"{path.name} can run code when it is loaded" for path in _files(directory) if path.suffix.lower() in _UNSAFE
    ]
    config = _json(directory / "config.json", problems)
    if "auto_map" in config:
        problems.append("config.json names code of its own to load (auto_map)")
    names = sorted(path for path in directory.glob("*.safetensors"))
    if not names:
        problems.append(f"no .safetensors files are in {directory}")
    if not (directory / "tokenizer.json").exists() and not (directory / "tokenizer.model").exists():
        problems.append("tokenizer.json and tokenizer.model are missing: use the base model's")
    tensors = parameters = 0
    for path in [*names, *sorted((directory / "adapter").glob("*.safetensors"))]:
        try:
            counted = check_safetensors(path)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        if path.parent == directory:
            tensors, parameters = tensors + counted[0], parameters + counted[1]
    require_sound(problems)
    return Weights(
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        model_type=str(config.get("model_type", "")),
        tensors=tensors,
        parameters=parameters,
        images="vision_config" in config,
        adapter=(directory / "adapter" / "adapter_config.json").exists(),
        stand_in=of_folder(directory),
    )


def require_claim(weights: Weights, base_model: str) -> None:
    """Do nothing if weights are what their card says. Raises ConfigurationError."""
    wrong = mismatch(base_model, weights.stand_in, model_type=weights.model_type, parameters=weights.parameters)
    if wrong:
        message = f"the weights are not what their card says: {wrong}"
        raise ConfigurationError(message, hint="export the job again into an empty folder")


def check_safetensors(path: Path) -> tuple[int, int]:
    """Return the numbers of tensors and of parameters of a safetensors file.

    Raises:
        ValueError: it is torn, or its header points outside of it or at overlapping places.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("it is too short to be a safetensors file")
        (length,) = struct.unpack("<Q", head)
        if length > min(_LARGEST_HEADER, size - 8):
            raise ValueError("its header is longer than the file, or than the format allows")
        try:
            header = parsed(file.read(length))
        except ValueError as error:
            raise ValueError("its header is not JSON") from error
    places: list[tuple[int, int]] = []
    parameters = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        width = _WIDTHS.get(tensor.get("dtype"))
        if width is None:
            raise ValueError(f"tensor {name} has the unknown type {tensor.get('dtype')!r}")
        count = 1
        for extent in tensor["shape"]:
            count *= extent
        start, end = tensor["data_offsets"]
        if not 0 <= start <= end <= size - 8 - length or end - start != count * width:
            raise ValueError(f"tensor {name} does not fit into the file")
        places.append((start, end))
        parameters += count
    places.sort()
    if any(left[1] > right[0] for left, right in itertools.pairwise(places)):
        raise ValueError("its tensors overlap")
    return len(places), parameters


def write_instructions(directory: Path, weights: Weights, *, base_model: str, job: str) -> Path:
    """Write how to run the weights of a folder elsewhere, beside them, and return the file."""
    path = directory / INSTRUCTIONS
    path.write_text(instructions(weights, base_model=base_model, job=job), "utf-8")
    return path


def instructions(weights: Weights, *, base_model: str, job: str) -> str:
    """Return the instructions as Markdown. Every command is to be run in the folder of the weights."""
    kind = "AutoModelForImageTextToText" if weights.images else "AutoModelForCausalLM"
    loader = "AutoProcessor" if weights.images else "AutoTokenizer"
    content = '[{"type": "text", "text": "What is a car?"}]' if weights.images else '"What is a car?"'
    adapter = (
        "\nThe adapter alone is in `adapter/`, in PEFT's form; it needs the base model's own weights.\n"
        if weights.adapter
        else ""
    )
    millions = weights.parameters / 1e6
    origin = f"Tuned from `{base_model}`"
    if weights.stand_in is not None:
        origin = (
            f"**These are not weights of `{base_model}`.** They were tuned from {weights.stand_in}, which stood in for "
            f"it in the local emulator,"
        )
    # 5.24's Llama4ForConditionalGeneration reads `image_outputs` of an output that has no such field.
    transformers = '"transformers!=5.24.*"' if weights.model_type == "llama4" else "transformers"
    return f"""# Running these weights

{origin} by job `{job}`: {weights.architecture}, {millions:,.1f} million parameters, in safetensors.
Run everything in this folder. No code comes with the weights: `trust_remote_code` stays off.
{adapter}
## Transformers

```
pip install torch {transformers}{" pillow torchvision" if weights.images else ""}
```

```python
from transformers import {kind}, {loader}

tokenizer = {loader}.from_pretrained(".")
model = {kind}.from_pretrained(".", dtype="auto")
messages = [{{"role": "user", "content": {content}}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

## vLLM

On a machine with a GPU:

```
pip install vllm
vllm serve . --served-model-name tuned --port 8000
```

```
curl http://localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "tuned", "messages": [{{"role": "user", "content": "What is a car?"}}], "temperature": 0}}'
```

## llama.cpp

GGUF files are made by llama.cpp's own converter, which knows the tokenizers of each family:

```
git clone https://github.com/ggml-org/llama.cpp && pip install -r llama.cpp/requirements.txt
python llama.cpp/convert_hf_to_gguf.py . --outfile tuned.gguf --outtype bf16
llama-cli -m tuned.gguf -cnv
```

Then compare an answer or two with the ones above: a template or a stop token that was lost on the way shows at once.
"""


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        body = parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    return body if isinstance(body, dict) else {}
