"""The speed of exact token counts, as ratios: `python -m benchmarks.dataset_tokens`.

The tokenizer is a byte-level BPE with 32,000 tokens in the style of Llama 3, trained here on texts of the standard
library, or the one in a given folder. The times are CPU times of all threads, with loading where stated. If `tiktoken`
is installed, it is compared with the same vocabulary.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks.goals.dataset_files import FOREIGN, lines, paragraphs, write
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.tokens.counters import TokenizerCounter

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def make_tokenizer(folder: Path, vocabulary: int = 32_000) -> None:
    """Train a tokenizer and write it with a chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*paragraphs(), *[text * 3 for text in FOREIGN]], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin_of_text|>"}))


def tiktoken_counter(folder: Path) -> Callable[[str], int] | None:
    """Return a `tiktoken` counter with the vocabulary of a folder from this module; None if it is not installed."""
    if util.find_spec("tiktoken") is None:
        return None
    import tiktoken

    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    # Printable bytes represent themselves; the others are characters from 256 on, in their order.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = {chr(code): code for code in plain}
    byte_of |= {chr(256 + place): code for place, code in enumerate(code for code in range(256) if code not in plain)}
    ranks = {
        bytes(byte_of[letter] for letter in token): rank - len(_SPECIAL)
        for token, rank in vocabulary.items()
        if token not in _SPECIAL
    }
    encoding = tiktoken.Encoding("benchmark", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def texts_of(kind: str, size: int) -> list[str]:
    """Return texts of one kind, about `size` bytes of them."""
    draw = random.Random(5)
    found: list[str] = []
    made = 0
    source = lines("chat")
    while made < size:
        if kind == "chat":
            found += [turn["content"] for turn in json.loads(next(source))["messages"]]
        elif kind == "hex":
            found.append(draw.randbytes(600).hex())
        else:
            found.append("".join(draw.choice(FOREIGN) * 2 for _ in range(8)))
        made = sum(len(text.encode()) for text in found) if len(found) % 50 < 5 else made
    return found


def cpu(run: Callable[[], Any], repeats: int = 3) -> float:
    """Return the minimum CPU seconds of several runs."""
    best = 1e9
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Measure and print the results."""
    import fastokens  # type: ignore[import-untyped]
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=12)
    parser.add_argument("--tokenizer", type=Path, help="Hugging Face folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.tokenizer or Path(made, "tokenizer")
        if options.tokenizer is None:
            make_tokenizer(folder)
        start = time.process_time()
        counter = TokenizerCounter(folder)
        print(f"{counter.library} counts; loading and comparing takes {time.process_time() - start:.2f} s")
        reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
        fast = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
        other = tiktoken_counter(folder) if options.tokenizer is None else None
        for kind in ("chat", "hex", "languages"):
            texts = texts_of(kind, 1 << 20)
            characters = [len(text) for text in texts]
            size = sum(len(text.encode()) for text in texts)
            mine = cpu(lambda texts=texts, n=characters: counter.measure_all([[t, "a"] for t in texts], n))  # type: ignore[misc]
            theirs = cpu(lambda texts=texts: reference.encode_batch_fast(texts, add_special_tokens=False), 2)  # type: ignore[misc]
            alone = cpu(lambda texts=texts: [fast.encode_batch_flat([text]) for text in texts])  # type: ignore[misc]
            print(
                f"{kind}: {size / mine / 1e6:.0f} MB/s a core, template included:"
                f" {theirs / mine:.1f} x encode_batch_fast of the texts alone (fastokens alone {theirs / alone:.1f} x)"
            )
            if other is not None:
                equal = sum(other(text) == len(reference.encode(text).ids) for text in texts[:500])
                theirs = cpu(lambda texts=texts: [other(text) for text in texts])  # type: ignore[misc]
                print(f"  {theirs / mine:.1f} x tiktoken ({equal} of {len(texts[:500])} counts are the same)")
        path = Path(made, "chat.jsonl")
        write(path, options.megabytes << 20, "chat")
        size = path.stat().st_size
        settings = Settings(ratio=0.25, tokenizer=folder, limit=8192, name="t")
        check = cpu(lambda: totals_of_range(path, 0, size, settings), 2)
        with path.open("rb") as stream:
            some = [turn["content"] for line in stream.readlines(1 << 20) for turn in json.loads(line)["messages"]]
        theirs = cpu(lambda: reference.encode_batch_fast(some, add_special_tokens=False), 2) * size / (1 << 20)
        print(
            f"whole check of {options.megabytes} MB, loading included: {size / check / 1e6:.0f} MB/s a core,"
            f" {theirs / check:.1f} x encode_batch_fast of the texts alone"
        )
        if other is not None:
            theirs = cpu(lambda: [other(text) for text in some], 2) * size / (1 << 20)
            print(f"  {theirs / check:.1f} x tiktoken of the texts alone")


if __name__ == "__main__":
    main()
