"""The running batch of a `DenseDecoder`: its rows, and a cache of prompt prefixes.

A prefix that a prompt shares with an earlier one is copied. With PyTorch's products, each CPU thread computes a step
for a share of the rows. If threads shared hundreds of small products instead, they would wait for each other longer
than they compute.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as functional

from runner.emulator.engine.serving.dense import Attention, DenseDecoder, entries_place
from runner.emulator.engine.serving.dense_cache import Cache, Row, Writing
from runner.emulator.engine.serving.scores import PromptScorer

_SHORTEST_PREFIX = 16
"""Minimum length of a shared prefix that is copied."""

PREFIX_POSITIONS = 4096
"""Maximum number of cached prompt positions, the last used ones. A position of SmolLM2-135M takes 23 kB, so 94 MB in
total."""


class DenseBatch:
    """Rows in the order in which they joined. Used by one thread. See `batch.Batch` for the methods except `read`.

    Args:
        decoder: the decoder.
        prefix_positions: maximum number of cached prompt positions; 0 disables the cache.
        threads: number of CPU threads that share the rows of a step.
    """

    def __init__(self, decoder: DenseDecoder, prefix_positions: int = PREFIX_POSITIONS, *, threads: int = 1) -> None:
        self._decoder = decoder
        self._threads = threads
        self._shares = self._caches()
        self._pool = ThreadPoolExecutor(len(self._shares), "share")
        self._rows: list[Row] = []
        self._prefixes = _Prefixes(prefix_positions)
        self.reused = 0
        """Prompt positions that were copied instead of computed."""

    @property
    def rows(self) -> int:
        """Return the number of sequences in the cache."""
        return len(self._rows)

    @property
    def width(self) -> int:
        """Return the number of positions of the longest row."""
        return max((row.length for row in self._rows), default=0)

    def unread(self, ids: list[int]) -> int:
        """Return how many of a prompt's tokens a pass would have to compute."""
        return len(ids) - self._prefixes.length(ids)

    def read(self, ids: list[int]) -> None:
        """Read the beginning of a prompt that joins later. Positions that were read before are not read again."""
        self._read([ids])

    def join(
        self,
        prompts: list[list[int]],
        image_inputs: dict[str, torch.Tensor] | None = None,
        scorer: PromptScorer | None = None,
    ) -> torch.Tensor:
        """Read prompts, append their rows and return the logits after each, shape (prompts, vocabulary)."""
        if image_inputs:
            raise ValueError("a dense decoder takes no images")
        unique = list(map(list, dict.fromkeys(map(tuple, prompts))))
        places = [unique.index(one) for one in prompts]
        reading, states = self._read(unique, reuse=scorer is None)
        if scorer is not None:
            width = max(map(len, prompts))
            parts = torch.split(states.to(self._decoder.dtype), [len(one) for one in unique])
            padded = [functional.pad(one, (0, 0, width - len(one), 0)) for one in parts]
            scorer.keep(torch.stack([padded[place] for place in places]))
            states = states[[end - 1 for end in reading.ends]]
        logits = self._decoder.logits(states)
        self._rows += [min(self._shares, key=Cache.count).add(reading.entries[place]) for place in places]
        return logits[places]

    def _read(self, prompts: list[list[int]], *, reuse: bool = True) -> tuple[_Reading, torch.Tensor]:
        """Compute and cache the keys and values of prompts; return them and the hidden states.

        The states are those of the last tokens, or of all tokens if nothing is reused.
        """
        known = [self._prefixes.find(one) if reuse else None for one in prompts]
        reading = _Reading(self._decoder, prompts, [0 if one is None else one.shape[3] for one in known])
        for row, prefix in zip(reading.entries, known, strict=True):
            if prefix is not None:
                row[..., : prefix.shape[3], :] = prefix
        wanted = [end - 1 for end in reading.ends] if reuse else None
        states = self._decoder.forward(reading.tokens, reading.positions, reading, wanted)
        self.reused += sum(reading.known)
        for prompt, row in zip(prompts, reading.entries, strict=True):
            self._prefixes.remember(prompt, row)
        return reading, states

    def step(self, tokens: list[int]) -> torch.Tensor:
        """Append one token to every row and return the logits after it, shape (rows, vocabulary)."""
        told = dict(zip(self._rows, tokens, strict=True))
        shares = [one for one in self._shares if one.count()]
        threads = max(1, self._threads // len(shares))
        done = list(self._pool.map(lambda share: self._step_share(share, told, threads), shares))
        order = {row: place for place, row in enumerate(row for rows, _ in done for row in rows)}
        return torch.cat([logits for _, logits in done])[[order[row] for row in self._rows]]

    def _step_share(self, share: Cache, told: dict[Row, int], threads: int) -> tuple[list[Row], torch.Tensor]:
        """Do it for the rows of one share; return them and the logits in its order. Runs on a thread of the pool."""
        torch.set_num_threads(threads)
        with torch.inference_mode():
            share.make_room()
            rows = share.ordered()
            states = self._decoder.forward([told[row] for row in rows], [row.length for row in rows], Writing(share))
            for row in rows:
                row.length += 1
            return rows, self._decoder.logits(states)

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        kept = [self._rows[row] for row in rows]
        for row in set(self._rows).difference(kept):
            row.cache.remove(row)
        self._rows = kept
        while True:
            least, most = (find(self._shares, key=Cache.count) for find in (min, max))
            if most.count() <= least.count() + 1:
                return
            most.ordered()[-1].move(least)

    def clear(self) -> None:
        """Drop every row."""
        self._shares = self._caches()
        self._rows = []

    def _caches(self) -> list[Cache]:
        return [Cache(self._decoder) for _ in range(1 if self._decoder.own_threads else self._threads)]


class _Reading(Attention):
    """Complete prompts, each with the cached part of it."""

    def __init__(self, decoder: DenseDecoder, prompts: list[list[int]], known: list[int]) -> None:
        self.known = known
        self.tokens = [token for prompt, start in zip(prompts, known, strict=True) for token in prompt[start:]]
        self.positions = [
            place for prompt, start in zip(prompts, known, strict=True) for place in range(start, len(prompt))
        ]
        self._counts = [len(prompt) - start for prompt, start in zip(prompts, known, strict=True)]
        self.ends = torch.tensor(self._counts).cumsum(0).tolist()
        shape = (decoder.layers, 2, decoder.key_heads)
        self.entries = [
            torch.empty((*shape, len(prompt), decoder.head_size), dtype=decoder.dtype) for prompt in prompts
        ]

    def rows(self) -> list[tuple[int, int, int, int, int]]:
        return [entries_place(one, count) for one, count in zip(self.entries, self._counts, strict=True)]

    def __call__(self, layer: int, queries: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        read = []
        parts = (torch.split(one, self._counts) for one in (queries, entries))
        for row, start, asked, new in zip(self.entries, self.known, *parts, strict=True):
            stored = row[layer]
            stored[:, :, start:] = new.permute(1, 2, 0, 3)
            mask = None
            if start:
                mask = torch.ones((len(asked), stored.shape[2]), dtype=torch.bool).tril(start)
            one = functional.scaled_dot_product_attention(
                asked.transpose(0, 1).unsqueeze(0),
                stored[:1],
                stored[1:],
                attn_mask=mask,
                is_causal=mask is None,
                enable_gqa=True,
            )
            read.append(one[0].transpose(0, 1))
        return torch.cat(read)


class _Prefixes:
    """Keys and values of the last prompts, by their tokens."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._known: dict[tuple[int, ...], torch.Tensor] = {}
        """Maps a prompt to keys and values, shape (layers, 2, key heads, positions, head size); the last used one at
        the end."""

    def length(self, prompt: list[int]) -> int:
        """Return how many of a prompt's tokens are cached."""
        return self._best(prompt)[1]

    def find(self, prompt: list[int]) -> torch.Tensor | None:
        """Return keys and values of a prompt's prefix."""
        best, length = self._best(prompt)
        if not length:
            return None
        found = self._known[best] = self._known.pop(best)
        return found[..., :length, :]

    def remember(self, prompt: list[int], row: torch.Tensor) -> None:
        """Cache a prompt's keys and values, which must not change any more; the last prompt is always cached."""
        if not self._positions or len(prompt) < _SHORTEST_PREFIX:
            return
        ids = tuple(prompt)
        for one in [one for one in self._known if one == ids[: len(one)]]:
            del self._known[one]
        self._known[ids] = row
        while len(self._known) > 1 and sum(map(len, self._known)) > self._positions:
            del self._known[next(iter(self._known))]

    def _best(self, prompt: list[int]) -> tuple[tuple[int, ...], int]:
        """Return the entry with the longest shared prefix, and its length; the last token is always computed."""
        best: tuple[int, ...] = ()
        length = 0
        for one in self._known:
            shared = _shared(one, prompt)
            if shared > length:
                best, length = one, shared
        length = min(length, len(prompt) - 1)
        return (best, length) if length >= _SHORTEST_PREFIX else ((), 0)


def _shared(one: tuple[int, ...], other: list[int]) -> int:
    """Return the length of the common prefix of two prompts."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
