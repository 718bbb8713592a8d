"""What a smaller encoder costs and brings against its teacher: quality on queries with grades, texts a second."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.domain.text import item_text
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.content import Encoder
from training.evaluate.metrics import ndcg
from training.ranker.words import Words

# Share of the words in the hybrid, as the gateway has it where nothing else is stated.
_WORDS_SHARE = 0.5
_ROUNDS = 15
_TEXTS_A_ROUND = 16


@dataclass(frozen=True)
class Quality:
    """nDCG@10 (linear gain, what has no grade counts as not relevant), means over the queries, and speed."""

    dense: float
    dense_teacher: float
    hybrid: float
    """Words and vectors by half: the words' score as a share of the best, the cosine as it is."""
    hybrid_teacher: float
    speedup: float
    """Texts a second against the teacher's: median ratio of rounds taken in turns, one thread, one text at a time."""

    @property
    def lost(self) -> float:
        """Of the hybrid's nDCG@10."""
        return self.hybrid_teacher - self.hybrid

    def metrics(self) -> dict[str, float]:
        """As an encoder's card and a bundle's manifest record them."""
        found = {f"encoder.ndcg@10_{name}": value for name, value in asdict(self).items() if name != "speedup"}
        return found | {"encoder.ndcg@10_lost": self.lost, "encoder.speedup": self.speedup}


def compare(
    encoder: Encoder,
    teacher: Encoder,
    items: Sequence[types_pb2.Item],
    grades: Mapping[str, Mapping[str, int]],
    most: int,
    cache: Path,
    progress: Callable[[int, int], None],
) -> Quality:
    """Searches exactly, by both encoders, among the items that have a grade, filled up to `most` with others.

    `grades`: of items by query, at least one above 0 each.
    """
    graded = {item_id for own in grades.values() for item_id in own}
    order = np.random.default_rng(0).permutation(len(items)).tolist()
    chosen = sorted(order, key=lambda row: items[row].id not in graded)[: max(most, len(graded))]
    items = [items[row] for row in chosen]
    ids = [item.id for item in items]
    words = Words(items)
    shares = np.stack([_share_of_best(words.scores(query)) for query in grades])
    found: list[float] = []
    for one in (encoder, teacher):
        cosines = one.queries(list(grades), cache, progress) @ one.items(items, cache, progress).T
        for scores in (cosines, _WORDS_SHARE * shares + (1 - _WORDS_SHARE) * cosines):
            found.append(_mean_ndcg(scores, ids, grades))
    sample = [item_text(item, teacher.manifest.template) for item in items[: _TEXTS_A_ROUND // 2]]
    speedup = _speedup(encoder, teacher, [*sample, *list(grades)[: _TEXTS_A_ROUND - len(sample)]])
    return Quality(found[0], found[2], found[1], found[3], speedup)


def _share_of_best(scores: Float32) -> Float32:
    known = np.nan_to_num(scores, nan=0.0)
    share: Float32 = known / max(float(known.max()), 1e-9)
    return share


def _mean_ndcg(scores: Float32, ids: Sequence[str], grades: Mapping[str, Mapping[str, int]]) -> float:
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :10].tolist()
    return float(
        np.mean([ndcg([ids[row] for row in rows], own) for rows, own in zip(ranked, grades.values(), strict=True)])
    )


def _speedup(encoder: Encoder, teacher: Encoder, texts: Sequence[str]) -> float:
    """Rounds of both in turns, so that what else the machine does meets both alike."""
    runs = [_run_of(one, texts) for one in (teacher, encoder)]
    for run in runs:
        run()
    ratios = []
    for _ in range(_ROUNDS):
        seconds = []
        for run in runs:
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def _run_of(encoder: Encoder, texts: Sequence[str]) -> Callable[[], None]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(encoder.model), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(encoder.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(encoder.manifest.max_tokens)
    inputs = [np.array([one.ids], np.int64) for one in tokenizer.encode_batch_fast(list(texts))]

    def run() -> None:
        for ids in inputs:
            session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})

    return run
