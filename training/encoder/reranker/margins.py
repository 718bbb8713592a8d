"""How far apart a reranker holds an answer and another item: what a dual encoder can learn of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.domain.reranking import batch, joined
from souk.dataset import DatasetError
from souk.vectors import Float32
from training.encoder.reranker.card import CARD, MODEL, TOKENIZER, RerankerCard
from training.encoder.reranker.groups import Groups

_AT_ONCE = 64
# Draws for a triple that is wanted: not every query has a worse item at hand.
_TRIED = 4
# A relevance of 0 or 1 has no logit.
_NEAREST = 1e-6


@dataclass(frozen=True)
class Triples:
    """Queries, each with the rows of an answer and of another item, and the reranker's logit of the first less that of
    the second, float32 (n,)."""

    queries: list[str]
    rows: list[tuple[int, int]]
    margins: Float32


def triples_of(reranker: Path, groups: Groups, count: int, seed: int, progress: Callable[[int, int], None]) -> Triples:
    """At most so many triples of the groups' queries, drawn by seed. Raises RerankerError for a directory that is none,
    DatasetError where no query has a worse item."""
    rng = np.random.default_rng(seed)
    queries: list[str] = []
    rows: list[tuple[int, int]] = []
    for _ in range(_TRIED * count):
        if len(queries) == count:
            break
        asked = groups.learn[int(rng.integers(len(groups.learn)))]
        (_, answer, target), *others = groups.group(asked, 2, rng)
        lower = [row for _, row, other in others if other < target]
        if lower:
            queries.append(asked.query)
            rows.append((answer, lower[0]))
    if not queries:
        raise DatasetError("pairs: every item answers every query alike; there is no margin to learn")
    pairs = [(query, groups.texts[row]) for query, both in zip(queries, rows, strict=True) for row in both]
    logits = _logits(reranker, pairs, progress).reshape(-1, 2)
    return Triples(queries, rows, logits[:, 0] - logits[:, 1])


def _logits(reranker: Path, pairs: Sequence[tuple[str, str]], progress: Callable[[int, int], None]) -> Float32:
    manifest = RerankerCard.read(reranker / CARD).manifest
    session = onnxruntime.InferenceSession(str(reranker / MODEL), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(reranker / TOKENIZER))
    tokenizer.no_padding()
    out = np.empty(len(pairs), np.float32)
    for begin in range(0, len(pairs), _AT_ONCE):
        part = pairs[begin : begin + _AT_ONCE]
        asked, items = (tokenizer.encode_batch_fast([pair[side] for pair in part]) for side in (0, 1))
        read = [joined(a.ids, b.ids, manifest.max_tokens) for a, b in zip(asked, items, strict=True)]
        (relevance,) = session.run(["relevance"], dict(batch(read)))
        share = np.clip(relevance.astype(np.float64), _NEAREST, 1 - _NEAREST)
        out[begin : begin + len(part)] = np.log(share / (1 - share))
        progress(begin + len(part), len(pairs))
    return out
