"""A student with fewer layers learns to put the shop's texts where its teacher puts them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from souk.vectors import Float32
from training.encoder.config import ConfigError, TrainConfig
from training.encoder.export import SentenceEncoder
from training.encoder.loop import LossTask
from training.encoder.model import Model, encode, padded, tokens

_AT_ONCE = 512
_NEAREST = 10
# As the contrastive loss divides by a temperature of 0.05.
_LOGITS_OF_COSINE = 20.0


@dataclass(frozen=True)
class DistilConfig(TrainConfig):
    """How a student is distilled."""

    learning_rate: float = 3e-4
    layers: int = 2
    """The student's; they begin as layers of the teacher, spread evenly."""
    query_share: float = 0.5
    """Of the texts of a batch, where there are queries."""
    items: int = 10_000
    """Texts of items to learn, at most; drawn by seed."""
    queries: int = 20_000
    query_tokens: int = 32
    item_tokens: int = 128
    similarity: float = 1.0
    """Weight of the distances within a batch beside the places of its texts."""
    margin: float = 0.1
    """Weight of the margins of the reranker, where one is given."""
    triples: int = 5000
    """Of a query, an answer and another item, that the reranker is asked about."""
    held_out: int = 500
    """Items, and as many queries, that are not learned, to choose by."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "layers": (1, 48),
        "query_share": (0, 0.9),
        "items": (20, 100_000_000),
        "queries": (0, 100_000_000),
        "query_tokens": (4, 512),
        "item_tokens": (4, 512),
        "similarity": (0, 100),
        "margin": (0, 100),
        "triples": (1, 100_000_000),
        "held_out": (5, 100_000),
    }


def student_of(teacher: Model, layers: int) -> Model:
    """A copy of the teacher with so many of its layers: the first, the last, the others evenly between (Sanh et al.
    2019). Raises ConfigError where the teacher has no more than that."""
    bert = teacher.module.model
    has = bert.config.num_hidden_layers
    if layers >= has:
        raise ConfigError(f"layers: the teacher has {has}; a student must have fewer, not {layers}")
    return with_layers(teacher, [round(place) for place in np.linspace(0, has - 1, layers).tolist()])


def with_layers(model: Model, kept: Sequence[int]) -> Model:
    """A copy with only the layers of these numbers, in this order."""
    bert: Any = deepcopy(model.module.model)
    bert.encoder.layer = torch.nn.ModuleList(bert.encoder.layer[number] for number in kept)
    bert.config.num_hidden_layers = len(kept)
    return Model(SentenceEncoder(bert).eval(), model.tokenizer, model.max_tokens)


@dataclass(frozen=True)
class Texts:
    """Texts and the teacher's vectors of them, float32 (n, dim) of length 1."""

    texts: list[str]
    vectors: Float32
    max_tokens: int

    def split(self, held_out: int) -> "tuple[Texts, Texts]":
        """The first `held_out`, and the others."""
        first = Texts(self.texts[:held_out], self.vectors[:held_out], self.max_tokens)
        return first, Texts(self.texts[held_out:], self.vectors[held_out:], self.max_tokens)


def taught(
    teacher: Model, texts: Sequence[str], max_tokens: int, most: int, seed: int, work: Path,
    progress: Callable[[int, int], None],
) -> Texts:  # fmt: skip
    """At most so many of the texts, drawn by seed, with the teacher's vectors; what was made is kept in `work`."""
    drawn = list(dict.fromkeys(texts))
    order = np.random.default_rng(seed).permutation(len(drawn))[:most]
    drawn = [drawn[row] for row in order.tolist()]
    weights = _weights_of(teacher)
    parts = []
    for begin in range(0, len(drawn), _AT_ONCE):
        part = drawn[begin : begin + _AT_ONCE]
        digest = hashlib.sha256("\0".join([str(max_tokens), weights, *part]).encode()).hexdigest()
        file = work / f"teacher-{digest[:32]}.npy"
        if not file.is_file():
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=work, delete=False) as draft:
                np.save(draft, encode(teacher, part, max_tokens))
            os.replace(draft.name, file)
        parts.append(np.load(file))
        progress(begin + len(part), len(drawn))
    return Texts(drawn, np.concatenate(parts) if parts else np.zeros((0, teacher.dim), np.float32), max_tokens)


@dataclass(frozen=True)
class Margins:
    """Texts of a query, an answer and another item, and how far apart a reranker holds the two, float32 (n,)."""

    texts: list[tuple[str, str, str]]
    margins: Float32


class Distil(LossTask):
    """Learns the teacher's vectors of queries and items, and, where there are any, the margins of a reranker."""

    chosen = "cosine"

    def __init__(
        self, student: Model, items: Texts, queries: Texts, config: DistilConfig, margins: Margins | None = None
    ) -> None:
        """Raises ConfigError where too few items are left to learn."""
        if len(items.texts) <= config.held_out:
            raise ConfigError(f"held_out: {config.held_out} of {len(items.texts)} items leaves none to learn")
        self._student, self._config, self._margins = student, config, margins
        self.module = student.module
        self._held_items, self._items = items.split(config.held_out)
        # Where there are few queries most are needed to learn from.
        self._held_queries, self._queries = queries.split(min(config.held_out, len(queries.texts) // 5))
        self._share = config.query_share if self._queries.texts else 0.0

    def identity(self) -> str:
        """Texts, the teacher's vectors of them, the tokenizer."""
        digest = hashlib.sha256(self._student.tokenizer.to_str().encode())
        for part in (self._held_items, self._items, self._held_queries, self._queries):
            digest.update("\0".join(part.texts).encode())
            digest.update(np.ascontiguousarray(part.vectors).data)
        if self._margins is not None:
            digest.update(repr(self._margins.texts).encode() + self._margins.margins.tobytes())
        return digest.hexdigest()

    def draw(self, rng: np.random.Generator) -> list[tuple[str, int]]:
        """Kind and row of each text: queries first; then as many triples as an eighth of the batch."""
        size = self._config.batch
        asked = round(size * self._share)
        rows = rng.integers(len(self._queries.texts), size=asked).tolist() if asked else []
        drawn = [("query", row) for row in rows]
        drawn += [("item", row) for row in rng.integers(len(self._items.texts), size=size - asked).tolist()]
        if self._margins is not None:
            count = max(1, size // 8)
            drawn += [("triple", row) for row in rng.integers(len(self._margins.texts), size=count).tolist()]
        return drawn

    def loss(self, examples: Sequence[tuple[str, int]]) -> tuple[Tensor, dict[str, float]]:
        """Mean distance from the teacher's vectors, 1 - cosine, and `similarity` times the mean square by which the
        cosines between all texts of the batch differ from the teacher's (Park et al. 2019, relational distillation)."""
        own, theirs = [], []
        for kind, texts in (("query", self._queries), ("item", self._items)):
            rows = [row for one, row in examples if one == kind]
            if rows:
                ids = tokens(self._student, [texts.texts[row] for row in rows], texts.max_tokens)
                own.append(self._student.module(*padded(ids, self._student.device))[1])
                theirs.append(torch.from_numpy(texts.vectors[rows]).to(self._student.device))
        student, teacher = torch.cat(own).float(), torch.cat(theirs)
        place = (1 - (student * teacher).sum(dim=1)).mean()
        distances = ((student @ student.T - teacher @ teacher.T) ** 2).mean()
        told = {"place": place.item(), "distances": distances.item()}
        loss = place + self._config.similarity * distances
        if self._margins is not None and (rows := [row for kind, row in examples if kind == "triple"]):
            margin = self._margin_loss(self._margins, rows)
            told["margin"] = margin.item()
            loss = loss + self._config.margin * margin
        return loss, told

    def _margin_loss(self, margins: Margins, rows: Sequence[int]) -> Tensor:
        """Margin-MSE (Hofstätter et al. 2020, equation 4); a cosine counts as a logit of 20 times its size."""
        limits = (self._config.query_tokens, self._config.item_tokens, self._config.item_tokens)
        query, answer, other = (
            self._student.module(
                *padded(
                    tokens(self._student, [margins.texts[row][side] for row in rows], limits[side]),
                    self._student.device,
                )
            )[1].float()
            for side in range(3)
        )
        held = _LOGITS_OF_COSINE * ((query * answer).sum(dim=1) - (query * other).sum(dim=1))
        wanted = torch.from_numpy(margins.margins[list(rows)]).to(held.device)
        return torch.nn.functional.mse_loss(held, wanted)

    def evaluate(self) -> dict[str, float]:
        """Mean cosine to the teacher on texts that were held out, and how many of a query's ten nearest items of these
        are the teacher's ten."""
        items = encode(self._student, self._held_items.texts, self._held_items.max_tokens)
        cosines = [(items * self._held_items.vectors).sum(axis=1)]
        metrics: dict[str, float] = {}
        if self._held_queries.texts:
            queries = encode(self._student, self._held_queries.texts, self._held_queries.max_tokens)
            cosines.append((queries * self._held_queries.vectors).sum(axis=1))
            metrics["nearest_shared"] = _shared(
                queries @ items.T, self._held_queries.vectors @ self._held_items.vectors.T
            )
        return {"cosine": float(np.concatenate(cosines).mean()), **metrics}


def _shared(scores: Float32, others: Float32) -> float:
    """Mean share of the ten best columns of each row that are among the ten best of the other matrix."""
    k = min(_NEAREST, scores.shape[1])
    own, theirs = (np.argsort(-one, axis=1, kind="stable")[:, :k] for one in (scores, others))
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(own.tolist(), theirs.tolist(), strict=True)]))


def _weights_of(model: Model) -> str:
    digest = hashlib.sha256(model.tokenizer.to_str().encode())
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
