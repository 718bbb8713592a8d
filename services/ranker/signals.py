"""What a shopper's history says of candidates beside the network, by the ids of a bundle's items."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from services.domain.features import LIKED
from services.domain.signals import SIGNALS, Signals
from souk.coldstart.v1 import coldstart_pb2
from souk.vectors import Float32

_PLACE = {name: place for place, name in enumerate(SIGNALS)}
_UNKNOWN = -1


class ItemSignals:
    """Signals of the items that a bundle's ranker was trained on; of others they say nothing."""

    def __init__(self, item_ids: Sequence[str], signals: Signals) -> None:
        self._row = {item_id: row for row, item_id in enumerate(item_ids)}
        self._signals = signals

    @classmethod
    def open(cls, bundle: Path, items: str, signals: str) -> "ItemSignals":
        """From the files of a bundle. Raises ValueError naming the file that does not fit."""
        with np.load(bundle / items, allow_pickle=False) as arrays:
            ids: list[str] = arrays["ids"].tolist()
        read = Signals.read(bundle / signals)
        if len(read.popularity) != len(ids):
            raise ValueError(f"{bundle / signals}: of {len(read.popularity)} items; {items} holds {len(ids)}")
        return cls(ids, read)

    def of(self, history: Iterable[coldstart_pb2.HistoryEntry], candidates: Sequence[str]) -> Float32:
        """(candidates, len(SIGNALS)): 0 for what is not known, and where nothing of the history speaks for a known
        item but how often items are met."""
        found = np.array([self._row.get(item_id, _UNKNOWN) for item_id in candidates], np.int64)
        known = found != _UNKNOWN
        out = np.zeros((len(SIGNALS), len(candidates)), np.float32)
        liked = [self._row.get(entry.item_id, _UNKNOWN) for entry in history if entry.type in LIKED]
        met = np.array([row for row in liked if row != _UNKNOWN], np.int64)
        if len(met):
            for name, values in self._signals.named([met], found[known]).items():
                out[_PLACE[name], known] = values[0]
        else:
            out[_PLACE["met_often"], known] = self._signals.popularity[found[known]]
        return out.T
