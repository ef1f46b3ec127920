"""Export weights to other systems: check them, and add instructions.

Nothing is converted: a job writes the format of Hugging Face's `transformers`, which all of these systems read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import model_files
from runner.errors import ConfigurationError, require_sound
from runner.json_text import parsed
from runner.serving.stand_ins import StandIn, mismatch, of_folder
from runner.wording import camel_keys

INSTRUCTIONS = "HOW-TO-RUN.md"
_UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The contents of a folder of weights."""

    architecture: str
    model_type: str
    tensors: int
    parameters: int
    images: bool
    """Whether the model accepts images."""
    adapter: bool
    """Whether the adapter is beside the merged weights."""
    stand_in: StandIn | None = None
    """The small model that stood in for the base model; None for real weights."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return camel_keys({**body, "stand_in": self.stand_in.name if self.stand_in else None})


def inspect(directory: Path) -> Weights:
    """Return the contents of a folder after a check of its files: safetensors only, with every tensor inside its file.

    Raises:
        ConfigurationError: a file is missing, truncated, or of a type that runs code when it is loaded.
    """
    problems = [
        f"{path.name} can run code when it is loaded" for path in _files(directory) if path.suffix.lower() in _UNSAFE
    ]
    config = _json(directory / "config.json", problems)
    if "auto_map" in config:
        problems.append("config.json loads custom code (auto_map)")
    names = sorted(path for path in directory.glob("*.safetensors"))
    if not names:
        problems.append(f"no .safetensors files are in {directory}")
    if not (directory / "tokenizer.json").exists() and not (directory / "tokenizer.model").exists():
        problems.append("tokenizer.json and tokenizer.model are missing: use the base model's")
    tensors = parameters = 0
    for path in [*names, *sorted((directory / "adapter").glob("*.safetensors"))]:
        try:
            counts = [count for _, count in model_files.tensors(path)]
        except ConfigurationError as error:
            problems.append(error.message)
            continue
        if path.parent == directory:
            tensors, parameters = tensors + len(counts), parameters + sum(counts)
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
    """Return normally if weights match their card. Raises ConfigurationError."""
    wrong = mismatch(base_model, weights.stand_in, model_type=weights.model_type, parameters=weights.parameters)
    if wrong:
        message = f"the weights are not what their card says: {wrong}"
        raise ConfigurationError(message, hint="export the job again into an empty folder")


def write_instructions(directory: Path, weights: Weights, *, base_model: str, job: str) -> Path:
    """Write instructions for other systems beside the weights in a folder, and return the file."""
    path = directory / INSTRUCTIONS
    path.write_text(instructions(weights, base_model=base_model, job=job), "utf-8")
    return path


def instructions(weights: Weights, *, base_model: str, job: str) -> str:
    """Return the instructions as Markdown. Every command runs in the folder of the weights."""
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
    # Llama4ForConditionalGeneration of 5.24 reads `image_outputs` from an output that has no such field.
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
