"""GGUF files for llama.cpp with the weights that the emulator serves, in other precisions."""

from __future__ import annotations

from pathlib import Path

from runner.emulator.engine.smollm2 import CHAT_TEMPLATE, gguf_file


def convert(folder: Path, kind: str) -> Path:
    """Return a GGUF file with all matrices in `kind` (`BF16` or `Q8_0`), which is created if missing."""
    import gguf
    from gguf.quants import dequantize, quantize

    target = folder / f"smollm2-{kind}.gguf"
    if target.exists():
        return target
    reader = gguf.GGUFReader(gguf_file())
    unfinished = target.with_suffix(".writing")
    writer = gguf.GGUFWriter(unfinished, "llama")
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, one in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "tokenizer.chat_template", "general.file_type"):
            continue
        array = one.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, one.contents(), one.types[0], one.types[-1] if array else None)
    writer.add_chat_template(CHAT_TEMPLATE)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values.astype("float32"))
        else:
            writer.add_tensor(tensor.name, quantize(values, quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(target)
    return target
