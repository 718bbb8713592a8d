"""The groups that fairness is asked of: of shoppers by what they told and did, of items by price and age."""

from collections.abc import Sequence

import numpy as np

from souk.types.v1 import types_pb2
from training.coldstart.segments import Segments
from training.evaluate.ranking import Moment
from training.ranker.log import Bools, Floats, Log
from training.ranker.suppliers import Facet

# Of a smaller group a measure says little.
_FEWEST_SHOPPERS = 100
_NEW_DAYS = 30.0


def facets(items: Sequence[types_pb2.Item], log: Log, at: Moment) -> list[Facet]:
    """Price bands (quarters of the items with a price) and, where there is time, items first liked in the 30 days
    before the moment or not yet, against older ones; those that tell no two groups apart are left out."""
    found = []
    price = np.array([item.price if item.HasField("price") else np.nan for item in items])
    if np.isfinite(price).any():
        edges = np.nanpercentile(price, [25, 50, 75])
        band = np.where(np.isfinite(price), np.searchsorted(edges, price), 4)
        names = ["cheapest quarter", "second", "third", "dearest quarter", "no price"]
        found.append(Facet("price", band.astype(np.int64), names))
    if log.has_time:
        first = np.full(len(items), np.inf)
        rows = at.seen & log.liked
        np.minimum.at(first, log.item[rows], log.time[rows])
        new = first > at.until - _NEW_DAYS * 86_400
        found.append(Facet("age", new.astype(np.int64), ["old", "new"]))
    return [one for one in found if len(np.unique(one.group)) > 1]


def shopper_groups(segments: Segments, log: Log, at: Moment) -> dict[str, Bools]:
    """Who of the shoppers of a moment is in a group, (n,) by name: "all"; light and heavy, whose history is at most,
    or is over, the median; and each told attribute=value of at least 100 of them."""
    examples = at.examples
    met = examples.end - examples.begin
    heavy = met > np.median(met)
    found = {"all": np.ones(len(examples), np.bool_), "light": ~heavy, "heavy": heavy}
    of = [segments.of[shopper] for shopper in log.shopper[examples.begin].tolist()]
    for code, name in enumerate(segments.names):
        found[name] = np.array([code in those for those in of])
    return {name: those for name, those in found.items() if name == "all" or those.sum() >= _FEWEST_SHOPPERS}


def wanted_share(facet: Facet, at: Moment) -> Floats:
    """Share of each group in what is wanted, all shoppers alike: (groups,)."""
    sizes = np.diff(at.examples.starts)
    weights = np.repeat(1 / (sizes * len(sizes)), sizes)
    return np.bincount(facet.group[at.examples.items], weights, len(facet.names)).astype(np.float64)
