"""What a bundle tells coldstart of everybody's behaviour: the strategies of its catalogue, and their blend.

Items that came after the training join as unknown ones by their content vector, brand and category.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.neighbours import Neighbours
from services.domain.strategies import NAMES, Blend, Strategies, nearest_known
from souk.vectors import Float32

BLEND = "blend"
"""The leg of the retrieval whose scores these are."""
_TABLES = ("together", "basket", "follows")
_ARRAYS = ("unknown", "popular", "like", "likeness", "lifts", "brand", "category", "alike")
# What is 64 bits wide in memory and needs half of that on disk.
_NARROW = {"like", "brand", "category"}


@dataclass(frozen=True)
class Newcomer:
    """An item that the training did not know; `content` as the encoder made it, (dim,)."""

    item: str
    content: Float32
    brand: str
    category: str


@dataclass(frozen=True)
class Blended:
    """`strategies` of the items `item_ids`, with what is needed to say as much of others and to order them."""

    item_ids: tuple[str, ...]
    strategies: Strategies
    blend: Blend
    bias: float
    """Added to the scores of unknown items; minus infinity shows none."""
    segments: tuple[str, ...]
    """Names "attribute=value" of the rows of the lifts."""
    brands: tuple[str, ...]
    categories: tuple[str, ...]
    """Names of the codes of brands and categories; "" is the first."""
    category_lifts: Float32
    """The lift of an item of which nothing but its category is known: (segments, categories)."""
    mean: Float32
    directions: Float32
    """A content vector of the encoder, less the mean (dim,), times the directions (dim, d), is what is compared."""

    @cached_property
    def rows(self) -> dict[str, int]:
        """Number of each item."""
        return {item: row for row, item in enumerate(self.item_ids)}

    def joined(self, newcomers: Sequence[Newcomer]) -> "Blended":
        """With these items, none of them among its own, as unknown ones. A brand or category that the training did not
        know speaks for nothing."""
        if not newcomers:
            return self
        old = self.strategies
        m, k = len(newcomers), old.like.shape[1]
        brands, categories = (
            {name: code for code, name in enumerate(names)} for names in (self.brands, self.categories)
        )
        category = np.array([categories.get(one.category, 0) for one in newcomers])
        content = np.concatenate(
            [old.content, compared(np.stack([one.content for one in newcomers]), self.mean, self.directions)]
        )
        unknown = np.concatenate([old.unknown, np.ones(m, bool)])
        # Those of the others stay as they are.
        like, likeness = nearest_known(content, ~unknown & content.any(axis=1), k, len(self.item_ids))
        together, basket, follows = (
            replace(one, starts=np.pad(one.starts, (0, m), mode="edge"))
            for one in (old.together, old.basket, old.follows)
        )
        strategies = replace(
            old,
            content=content,
            unknown=unknown,
            popular=np.concatenate([old.popular, np.zeros(m, np.float32)]),
            like=np.concatenate([old.like, like]),
            likeness=np.concatenate([old.likeness, likeness]),
            lifts=np.concatenate([old.lifts, self.category_lifts[:, category]], axis=1),
            brand=np.concatenate([old.brand, [brands.get(one.brand, 0) for one in newcomers]]).astype(np.int64),
            category=np.concatenate([old.category, category]).astype(np.int64),
            together=together,
            basket=basket,
            follows=follows,
        )
        return replace(self, item_ids=(*self.item_ids, *(one.item for one in newcomers)), strategies=strategies)

    def alike(self, item: str) -> list[tuple[str, float]]:
        """The nearest known items in the content space and the weight of each, summing to 1; none where the item is not
        in the blend or has no content."""
        row, said = self.rows.get(item), self.strategies
        if row is None:
            return []
        pairs = zip(said.like[row].tolist(), said.likeness[row].tolist(), strict=True)
        return [(self.item_ids[other], weight) for other, weight in pairs if weight > 0]

    def best(
        self,
        liked: Sequence[str],
        events: int,
        segments: Sequence[str],
        most: int,
        among: Sequence[str] | None = None,
    ) -> list[tuple[str, float]]:
        """The best `most` items, of all or of those `among`, for a shopper with so many events who liked these items,
        oldest first: each with its odds of being next over those of the best, above 0 to 1."""
        rows, number = self.rows, {name: code for code, name in enumerate(self.segments)}
        history = np.array([rows[item] for item in liked if item in rows], np.int64)
        codes = np.array(sorted({number[name] for name in segments if name in number}), np.int64)
        unknown = self.strategies.unknown
        scores = self.blend.scores(self.strategies.features(history, codes), unknown, events).astype(np.float64)
        scores[unknown] += self.bias
        able = np.isfinite(scores)
        if among is not None:
            chosen = np.zeros(len(scores), bool)
            chosen[[rows[item] for item in among if item in rows]] = True
            able &= chosen
        found = np.flatnonzero(able)
        if len(found) > most:
            found = found[np.argpartition(-scores[found], most - 1)[:most]]
        found = found[np.lexsort((found, -scores[found]))]
        if not len(found):
            return []
        # Far below the best nobody is told apart, and a score of 0 says nothing.
        odds = np.exp(np.maximum(scores[found] - scores[found[0]], -60.0))
        return [(self.item_ids[row], odd) for row, odd in zip(found.tolist(), odds.tolist(), strict=True)]

    def write(self, path: Path) -> None:
        """As one file of arrays."""
        said = self.strategies
        arrays: dict[str, Any] = {name: getattr(said, name) for name in _ARRAYS}
        arrays |= {name: arrays[name].astype(np.int32) for name in _NARROW}
        for name in _TABLES:
            table: Neighbours = getattr(said, name)
            arrays[f"{name}_starts"] = table.starts
            arrays[f"{name}_items"] = table.items.astype(np.int32)
            arrays[f"{name}_scores"] = table.scores
        arrays["content"] = said.content.astype(np.float16)
        arrays |= {
            name: np.array(getattr(self, name), str) for name in ("item_ids", "segments", "brands", "categories")
        }
        arrays |= {"weights": self.blend.weights, "biases": self.blend.bias, "bias": np.array(self.bias)}
        np.savez(path, **arrays, category_lifts=self.category_lifts, mean=self.mean, directions=self.directions)

    @classmethod
    def read(cls, path: Path) -> "Blended":
        """What was written. Raises ValueError naming the file where arrays do not fit each other."""
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = dict(file)
        try:
            made = cls._of(arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: lacks an array of a blend ({error})") from None
        made._check(path)
        return made

    @classmethod
    def _of(cls, arrays: dict[str, NDArray[Any]]) -> "Blended":
        def table(name: str) -> Neighbours:
            starts, items = (arrays[f"{name}_{part}"].astype(np.int64) for part in ("starts", "items"))
            return Neighbours(starts, items, arrays[f"{name}_scores"])

        def names(name: str) -> tuple[str, ...]:
            return tuple(arrays[name].tolist())

        strategies = Strategies(
            content=arrays["content"].astype(np.float32),
            unknown=arrays["unknown"],
            popular=arrays["popular"],
            together=table("together"),
            basket=table("basket"),
            follows=table("follows"),
            like=arrays["like"].astype(np.int64),
            likeness=arrays["likeness"],
            lifts=arrays["lifts"],
            brand=arrays["brand"].astype(np.int64),
            category=arrays["category"].astype(np.int64),
            alike=arrays["alike"],
        )
        return cls(
            item_ids=names("item_ids"),
            strategies=strategies,
            blend=Blend(arrays["weights"], arrays["biases"]),
            bias=float(arrays["bias"]),
            segments=names("segments"),
            brands=names("brands"),
            categories=names("categories"),
            category_lifts=arrays["category_lifts"],
            mean=arrays["mean"],
            directions=arrays["directions"],
        )

    def _check(self, path: Path) -> None:
        said, n, s, c = self.strategies, len(self.item_ids), len(self.segments), len(self.categories)
        d = self.directions.shape[1]
        expected = {
            "content": (said.content.shape, (n, d)),
            "unknown": (said.unknown.shape, (n,)),
            "popular": (said.popular.shape, (n,)),
            "likeness": (said.likeness.shape, (n, said.like.shape[-1])),
            "lifts": (said.lifts.shape, (s, n)),
            "category_lifts": (self.category_lifts.shape, (s, c)),
            "alike": (said.alike.shape, (c, c)),
            "weights": (self.blend.weights.shape, (2, 2, len(NAMES))),
            "mean": (self.mean.shape, self.directions.shape[:1]),
            **{name: (getattr(said, name).starts.shape, (n + 1,)) for name in _TABLES},
        }
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise ValueError(f"{path}: {name} {found} does not fit {wanted} of the others")


def compared(vectors: Float32, mean: Float32, directions: Float32) -> Float32:
    """Content vectors (n, dim) as strategies compare them: of length 1, (n, d); zeros stay zeros."""
    out = (vectors - mean) @ directions
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
    found: Float32 = np.where(vectors.any(axis=1, keepdims=True), out, 0).astype(np.float32)
    return found
