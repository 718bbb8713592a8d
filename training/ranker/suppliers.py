"""Who supplies each item, and how much it counts in training that an item of theirs is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.domain.offers import SUPPLIER, values_of
from souk.types.v1 import types_pb2
from training.ranker.examples import Examples
from training.ranker.log import Floats, Ints

# A supplier is told by the attribute, or else the brand, where so many items have it.
_TOLD = 0.5
_NOBODY = "(none)"


@dataclass(frozen=True)
class Facet:
    """One way to part the items: the group of each, by number, and the names."""

    name: str
    group: Ints
    names: list[str]


def suppliers(items: Sequence[types_pb2.Item]) -> Facet:
    """By the attribute `supplier`, or else the brand, whichever half of the items have; what has none is "(none)".

    Raises ValueError where most items have neither, or all the same.
    """
    kinds = {
        "supplier": [next(iter(values_of(item, SUPPLIER)), "") for item in items],
        "brand": [item.brand for item in items],
    }
    for kind, found in kinds.items():
        if sum(map(bool, found)) >= _TOLD * len(items):
            names, group = np.unique([name or _NOBODY for name in found], return_inverse=True)
            if len(names) > 1:
                return Facet(kind, group.astype(np.int64), names.tolist())
    raise ValueError("most items have neither an attribute `supplier` nor a brand of their own: nobody to be fair to")


def worth(by: Facet, examples: Examples, power: float) -> Floats:
    """What each item that is wanted counts: its supplier's share of all that the examples want to the power of
    `-power`, 1 in the mean over what is wanted; 0 changes nothing, at 1 every supplier counts as much as any other.
    (items,); the power law of Yang and others 2018, "Unbiased offline recommender evaluation for
    missing-not-at-random implicit feedback", here by supplier.
    """
    sizes = np.diff(examples.starts)
    row = np.repeat(np.arange(len(examples)), sizes)
    weights = examples.weights / np.bincount(row, examples.weights, len(examples))[row]
    wanted = np.bincount(by.group[examples.items], weights, len(by.names))
    # A supplier of whom nothing is wanted yet counts as one of whom one thing is.
    counts = np.maximum(wanted, 1.0) ** -power
    found: Floats = counts[by.group] * (wanted.sum() / (wanted * counts).sum())
    return found
