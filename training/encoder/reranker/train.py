"""Trains the cross-encoder on graded pairs and items that are no answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from training.encoder.config import TrainConfig
from training.encoder.loop import LossTask
from training.encoder.reranker.groups import Asked, Groups
from training.encoder.reranker.model import Reader

_K = 10
_CANDIDATES = 30


@dataclass(frozen=True)
class RerankerConfig(TrainConfig):
    """How the cross-encoder is trained."""

    learning_rate: float = 5e-5
    batch: int = 16
    """Queries of one update, each with an answer and others."""
    negatives: int = 4
    max_tokens: int = 96
    """Of query and item together, in training and in serving."""
    layers: int = 0
    """Of the BERT that are kept, spread evenly; 0: all. Fewer read more candidates in the same time."""
    weight: float = 0.5
    """Share of the relevance in the score of a candidate, written into the bundle."""
    held_out: float = 0.1
    held_out_queries: int = 300
    """At most so many are measured by."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "negatives": (1, 64),
        "max_tokens": (16, 512),
        "layers": (0, 48),
        "weight": (0, 1),
        "held_out": (0.001, 0.9),
        "held_out_queries": (1, 1_000_000),
    }


class LearnToRead(LossTask):
    """Binary cross entropy of the relevance against the grade as a share of the query's best."""

    chosen = "ndcg@10"

    def __init__(self, reader: Reader, groups: Groups, config: RerankerConfig) -> None:
        self._reader, self._groups, self._config = reader, groups, config
        self.module = reader.module
        rng = np.random.default_rng(config.seed)
        self._exams = [(asked, self._candidates(asked, rng)) for asked in groups.held]

    def identity(self) -> str:
        """Items, pairs and tokenizer."""
        return hashlib.sha256((self._groups.identity() + self._reader.tokenizer.to_str()).encode()).hexdigest()

    def draw(self, rng: np.random.Generator) -> list[list[tuple[str, int, float]]]:
        """One group a query."""
        learn = self._groups.learn
        chosen = rng.choice(len(learn), min(self._config.batch, len(learn)), replace=False)
        return [self._groups.group(learn[number], self._config.negatives, rng) for number in chosen.tolist()]

    def loss(self, examples: Sequence[list[tuple[str, int, float]]]) -> tuple[Tensor, dict[str, float]]:
        """The mean over all pairs."""
        rows = [one for group in examples for one in group]
        inputs = self._reader.inputs([(query, self._groups.texts[row]) for query, row, _ in rows])
        logits = self.module.logits(**inputs).float()  # type: ignore[operator]
        targets = torch.tensor([target for _, _, target in rows], device=logits.device)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets), {}

    def evaluate(self) -> dict[str, float]:
        """nDCG@10, linear gain, of held-out queries: their graded items among items that words find, read anew."""
        pairs = [(asked.query, self._groups.texts[row]) for asked, rows in self._exams for row in rows]
        logits = self._reader.logits(pairs)
        found, begin = [], 0
        for asked, rows in self._exams:
            order = np.argsort(-logits[begin : begin + len(rows)], kind="stable")
            found.append(_ndcg([asked.grades.get(rows[place], 0.0) for place in order.tolist()]))
            begin += len(rows)
        return {"ndcg@10": float(np.mean(found))}

    def _candidates(self, asked: Asked, rng: np.random.Generator) -> list[int]:
        """Rows in no order: the graded, then what words find, then any."""
        rows = [*sorted(asked.grades)[: _CANDIDATES // 2], *self._groups.negatives(asked)]
        rows += rng.integers(len(self._groups.texts), size=_CANDIDATES).tolist()
        rows = list(dict.fromkeys(rows))[:_CANDIDATES]
        return [rows[place] for place in rng.permutation(len(rows)).tolist()]


def _ndcg(grades: Sequence[float]) -> float:
    """Of the first ten of grades in order, all of them there."""
    ideal = _dcg(sorted(grades, reverse=True)[:_K])
    return _dcg(grades[:_K]) / ideal if ideal else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 2) for place, gain in enumerate(gains)))
