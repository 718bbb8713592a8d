"""What a shopper's history says of candidates beside the network, by the ids of a bundle's items."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from services.domain.features import LIKED
from services.domain.signals import SIGNALS, Signals
from souk.coldstart.v1 import coldstart_pb2
from souk.vectors import Float32


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
        out = np.zeros((len(candidates), len(SIGNALS)), np.float32)
        known = [(at, row) for at, item_id in enumerate(candidates) if (row := self._row.get(item_id)) is not None]
        if not known:
            return out
        places, rows = np.array(known, np.int64).T
        met = [self._row[entry.item_id] for entry in history if entry.type in LIKED and entry.item_id in self._row]
        if not met:
            out[places, SIGNALS.index("met_often")] = self._signals.popularity[rows]
            return out
        for name, values in self._signals.named([np.array(met, np.int64)], rows).items():
            out[places, SIGNALS.index(name)] = values[0]
        return out
