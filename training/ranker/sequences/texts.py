"""What the texts of items say, as the network reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.whitening import whitening


@dataclass(frozen=True)
class Texts:
    """Of n items: (content vector - `mean`) @ `directions`, whitened (Su et al. 2021), so that what sets items of one
    shop apart counts as much as what sets them apart from other shops' items."""

    space_version: str
    """Of the content vectors."""
    mean: Float32
    directions: Float32
    vectors: Float32
    """(n, k), zeros where an item has no text."""

    @classmethod
    def of(cls, item_ids: Sequence[str], content: Mapping[str, Float32], space_version: str) -> "Texts | None":
        """From content vectors by item id, zeros for what could not be read; None where there is none at all."""
        known = [row for row, item in enumerate(item_ids) if item in content and content[item].any()]
        if not known:
            return None
        told = np.stack([content[item_ids[row]] for row in known])
        mean, directions = whitening(told)
        found = np.zeros((len(item_ids), directions.shape[1]), np.float32)
        found[known] = (told - mean) @ directions
        return cls(space_version, mean, directions, found)
