"""Items drawn from those met together with an item: soft targets of the training."""

from dataclasses import dataclass

import numpy as np

from training.ranker.log import Floats, Ints
from training.ranker.neighbours import Neighbours


@dataclass(frozen=True)
class Companions:
    """Partners of each of n items with their chances, as one running sum over all pairs."""

    starts: Ints
    items: Ints
    sums: Floats
    """Running sum of scores before each pair, and the whole: (pairs + 1,)."""

    @classmethod
    def of(cls, neighbours: Neighbours) -> "Companions":
        """The chance of a partner is its share of the scores of the item's partners."""
        sums = np.concatenate([[0.0], np.cumsum(neighbours.scores, dtype=np.float64)])
        return cls(neighbours.starts, neighbours.items, sums)

    def draw(self, wanted: Ints, rng: np.random.Generator) -> Ints:
        """A partner of each of the wanted items; the item itself where it has none."""
        begin, end = self.starts[wanted], self.starts[wanted + 1]
        drawn = self.sums[begin] + rng.random(len(wanted)) * (self.sums[end] - self.sums[begin])
        pair = np.clip(np.searchsorted(self.sums, drawn, side="right") - 1, begin, np.maximum(end - 1, begin))
        alone = begin == end
        found: Ints = np.where(alone, wanted, self.items[np.where(alone, 0, pair)] if len(self.items) else wanted)
        return found
