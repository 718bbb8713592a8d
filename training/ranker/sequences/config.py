"""Every number of the training on sequences; what should follow the data follows them."""

from dataclasses import dataclass, replace

import numpy as np

from training.ranker.sequences.files import Sequences

_LONGEST = 200
# Where items are met often, less dropout is needed (Kang and McAuley 2018 take 0.5 for Amazon's shops, 0.2 for films).
_RARE, _OFTEN, _DENSE_DROPOUT = 30, 150, 0.2
_PLACES_IN_ALL = 10_000_000
_STEPS_AN_EPOCH = 80


@dataclass(frozen=True)
class SequencesConfig:
    """How a ranker is trained on sequences."""

    seed: int = 7
    dim: int = 64
    layers: int = 2
    heads: int = 2
    graph: int = 128
    """Directions of the graph of what follows what, from which items without content are known."""
    dropout: float = 0.5
    max_history: int = 50
    """Latest events that the model reads."""
    places: int = 1536
    """Places of histories a step learns from, about."""
    most_items: int = 100_000
    """Compared with at every place; of a larger catalogue so many are drawn anew for each step."""
    learning_rate: float = 2e-3
    average: float = 0.995
    """Of the averaged weights, how much a step keeps."""
    epochs: int = 14
    patience: int = 3
    """Epochs without a better validation NDCG@10 before it stops."""
    validation_shoppers: int = 4096
    """To choose by, at most."""


def fitted(sequences: Sequences, seed: int) -> SequencesConfig:
    """The defaults for these data: history as long as 99% of the shoppers', at least 80 steps an epoch, fewer epochs
    where there are many events, less dropout where items are met often."""
    sizes = np.diff(sequences.starts) - 2
    places = int((sizes - 1).sum())
    config = SequencesConfig(seed=seed)
    often = np.clip(np.log(places / len(sequences.item_ids) / _RARE) / np.log(_OFTEN / _RARE), 0, 1)
    return replace(
        config,
        max_history=int(np.clip(np.percentile(sizes, 99), 10, _LONGEST)),
        dropout=float(config.dropout - (config.dropout - _DENSE_DROPOUT) * often),
        places=int(np.clip(places // _STEPS_AN_EPOCH, 128, config.places)),
        epochs=int(np.clip(_PLACES_IN_ALL // max(places, 1), 4, config.epochs)),
    )
