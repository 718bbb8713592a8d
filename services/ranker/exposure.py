"""How much of a list one brand or one supplier may have."""

import math
from collections.abc import Sequence

import numpy as np

from services.ranker.diversity import Bools, Rows
from services.ranker.settings import RankerSettings
from souk.types.v1 import types_pb2

WINDOW = 10
"""Consecutive places of which a limit counts its share: wherever a page begins, it holds on it."""


class Exposure:
    """The limits on a list that is being made, over candidates in the order given.

    Of any ten consecutive places, pages or not, one brand has at most ceil(10 x its share), and so has one supplier;
    what has neither is free. Where `strict`, what is over the limits is left out; else, where nothing else is left, it
    follows.
    """

    def __init__(
        self,
        order: Rows,
        candidates: types_pb2.CandidateColumns,
        brand_share: float,
        supplier_share: float,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self._limits = [
            _Limit(order, codes, names, share)
            for codes, names, share in (
                (candidates.brand, candidates.brands, brand_share),
                (candidates.supplier, candidates.suppliers, supplier_share),
            )
            if share < 1 and codes
        ]
        self._chosen: list[int] = []

    @classmethod
    def of(
        cls, scene: int, order: Rows, candidates: types_pb2.CandidateColumns, settings: RankerSettings
    ) -> "Exposure | None":
        """The limits that the settings set for a scene; None where there are none. In SEARCH none hold: whoever typed a
        brand wants that brand."""
        if scene == types_pb2.SCENE_SEARCH:
            return None
        paid = scene == types_pb2.SCENE_SPONSORED
        brand, supplier = settings.brand_share, settings.supplier_share
        if paid:
            brand, supplier = min(brand, settings.sponsored_share), min(supplier, settings.sponsored_share)
        made = cls(order, candidates, brand, supplier, strict=paid)
        return made if made._limits else None

    def closed(self) -> Bools:
        """Which candidates may not have the next place, (n,)."""
        first, *others = (limit.counts[limit.codes] >= limit.most for limit in self._limits)
        for other in others:
            first |= other
        return first

    def add(self, at: int) -> None:
        """Gives the next place to the candidate at `at` in the order."""
        self._chosen.append(at)
        leaves = self._chosen[-WINDOW] if len(self._chosen) >= WINDOW else None
        for limit in self._limits:
            limit.counts[limit.codes[at]] += 1
            if leaves is not None:
                limit.counts[limit.codes[leaves]] -= 1
            limit.counts[0] = 0


class _Limit:
    """One kind of name; code 0 stands for none. `counts`: of each code, among the latest WINDOW - 1 places."""

    def __init__(self, order: Rows, codes: Sequence[int], names: Sequence[str], share: float) -> None:
        renumbered = np.array([code + 1 if name else 0 for code, name in enumerate(names)], np.int64)
        self.codes = renumbered[np.array(codes, np.int64)][order]
        self.counts = np.zeros(len(names) + 1, np.int64)
        # A product that floats put a hair above a whole number is that number.
        self.most = max(1, math.ceil(WINDOW * share - 1e-9))
