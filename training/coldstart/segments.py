"""Which segments shoppers are in by what they told of themselves, and how segments differ in what they like."""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.data.canonical import Dataset
from training.ranker.log import Floats, Ints, Log

# A value that fewer shoppers have says too little of them.
_FEWEST_SHOPPERS = 10
_MOST_SEGMENTS = 128
# Events of a segment that weigh as much as what all shoppers do: of its categories, and within them of its items.
_CATEGORY_PRIOR, _ITEM_PRIOR = 200.0, 2000.0


@dataclass(frozen=True)
class Segments:
    """The segments of each shopper of a log; `names` are "attribute=value"."""

    names: tuple[str, ...]
    of: list[Ints]
    """By the log's number of a shopper; empty where nothing is told."""

    @classmethod
    def read(cls, dataset: Dataset, log: Log) -> "Segments":
        """Of attributes in the dataset's shoppers: the values that at least 10 shoppers have, the most frequent 128."""
        told: dict[str, list[str]] = {}
        for row in dataset.shoppers().select("shopper_id", "attributes").iter_rows():
            if row[1] is not None:
                told[row[0]] = [f"{name}={one}" for name, values in json.loads(row[1]).items() for one in values]
        counts = Counter(name for shopper in log.shopper_ids for name in set(told.get(shopper, ())))
        kept = [name for name, count in counts.most_common(_MOST_SEGMENTS) if count >= _FEWEST_SHOPPERS]
        number = {name: code for code, name in enumerate(sorted(kept))}
        of = [
            np.array(sorted({number[name] for name in told.get(shopper, ()) if name in number}), np.int64)
            for shopper in log.shopper_ids
        ]
        return cls(tuple(number), of)

    def lifts(self, log: Log, category: Ints) -> tuple[Float32, Float32]:
        """log(rate of an item in a segment / its rate among all), from the liked events of a log: (segments, items);
        and the same of an item of which nothing but its category is known, (segments, categories).

        Shrunk in two steps, as counts are few: a segment's categories towards everybody's, and its items towards what
        its categories say (empirical Bayes with a Dirichlet prior; Gelman et al. 2013, section 5). `category` (items,).
        """
        n = len(log.item_ids)
        overall = rates(np.bincount(log.item[log.liked], minlength=n))
        by_category = np.bincount(category, overall).astype(np.float64)
        out = np.zeros((len(self.names), n), np.float32)
        by_kind = np.zeros((len(self.names), len(by_category)), np.float32)
        rows: list[list[int]] = [[] for _ in self.names]
        for shopper, codes in enumerate(self.of):
            for code in codes.tolist():
                rows[code].append(shopper)
        for code, shoppers in enumerate(rows):
            chosen = np.isin(log.shopper, shoppers) & log.liked
            counts = np.bincount(log.item[chosen], minlength=n).astype(np.float64)
            total = float(counts.sum())
            kinds = np.bincount(category, counts, len(by_category)).astype(np.float64)
            lift = shrunk(kinds, total, by_category, _CATEGORY_PRIOR) / np.maximum(by_category, 1e-12)
            lift[by_category == 0] = 1
            by_kind[code] = np.log(lift * _ITEM_PRIOR / (total + _ITEM_PRIOR))
            expected = overall * lift[category]
            out[code] = np.log(shrunk(counts, total, expected, _ITEM_PRIOR) / overall)
        return out, by_kind


def rates(counts: Floats | Ints) -> Floats:
    """Share of each item among events; of an item without any, that of half an event: (items,)."""
    smoothed = counts + 0.5
    found: Floats = smoothed / smoothed.sum()
    return found


def shrunk(counts: Floats | Ints, total: float, expected: Floats, prior: float) -> Floats:
    """Rates that stand between counts and what is expected, which weighs as many events as the prior says."""
    found: Floats = (counts + prior * expected) / (total + prior)
    return found
