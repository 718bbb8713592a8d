"""Which segments shoppers are in by what they told of themselves, and how segments differ in what they like."""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import special

from souk.vectors import Float32
from training.data.canonical import Dataset
from training.ranker.log import Floats, Ints, Log

# A value that fewer shoppers have says too little of them.
_FEWEST_SHOPPERS = 10
_MOST_SEGMENTS = 128
# How many expected events of an item weigh as much as those that were seen: what may be found likeliest. More than the
# last would make attributes say nothing.
_PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0)


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
        its categories say. `category` (items,).
        """
        n = len(log.item_ids)
        overall = rates(np.bincount(log.item[log.liked], minlength=n))
        by_category = np.bincount(category, overall)
        items = np.zeros((len(self.names), n))
        kinds = np.zeros((len(self.names), len(by_category)))
        rows: list[list[int]] = [[] for _ in self.names]
        for shopper, codes in enumerate(self.of):
            for code in codes.tolist():
                rows[code].append(shopper)
        for code, shoppers in enumerate(rows):
            chosen = np.isin(log.shopper, shoppers) & log.liked
            items[code] = np.bincount(log.item[chosen], minlength=n)
            kinds[code] = np.bincount(category, items[code])
        total = items.sum(axis=1, keepdims=True)
        by_kind = _lift(kinds, total * by_category)
        of_kind = by_kind[:, category]
        by_item = _lift(items, total * overall * of_kind)
        return np.log(of_kind * by_item).astype(np.float32), np.log(by_kind).astype(np.float32)


def _lift(counts: Floats, expected: Floats) -> Floats:
    """How often things are met, over how often they were expected, shrunk towards 1: (counts + a) / (expected + a).

    Counts are Poisson, lifts Gamma(a, a) distributed (DuMouchel 1999, "Bayesian data mining in large frequency
    tables", section 3, with one component); a is the likeliest of `_PRIORS` given the counts. So an item that was
    expected a tenth of a time and not met says nothing, however many events the segment has. All (segments, things).
    """
    met = counts > 0
    seen = counts[met]

    def likelihood(prior: float) -> float:
        # Negative binomial, less what does not depend on the prior.
        ahead = expected + prior
        found = (special.gammaln(seen + prior) - special.gammaln(prior) - seen * np.log(ahead[met])).sum()
        return float(found - prior * np.log(ahead / prior).sum())

    prior = max(_PRIORS, key=likelihood)
    found: Floats = (counts + prior) / (expected + prior)
    return found


def rates(counts: Floats | Ints) -> Floats:
    """Share of each item among events; of an item without any, that of half an event: (items,)."""
    smoothed = counts + 0.5
    found: Floats = smoothed / smoothed.sum()
    return found


def shrunk(counts: Floats | Ints, total: float, expected: Floats, prior: float) -> Floats:
    """Rates that stand between counts and what is expected, which weighs as many events as the prior says."""
    found: Floats = (counts + prior * expected) / (total + prior)
    return found
