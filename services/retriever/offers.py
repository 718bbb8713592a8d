"""What the attributes of candidates say of promotions, bids, suppliers and boosts, as columns beside the others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.offers import BID, BOOST, LEAST_BID, LEAST_BOOST, OFFER_FROM, OFFER_UNTIL, PROMOTION, SUPPLIER
from services.retriever.columns import ColumnsView
from services.retriever.order import Slots

_NONE = -1


def offers(slots: Slots, view: ColumnsView, now: float) -> dict[str, Any]:
    """The fields of CandidateColumns that tell the offers of some slots at `now` (seconds since 1970 UTC); those are
    left out that no slot has."""
    columns: dict[str, Any] = {}
    promotion = _codes(PROMOTION, slots, view)
    # What is not known compares as false: it has always run, it never ends.
    ended = (_numbers(OFFER_FROM, slots, view) > now) | (_numbers(OFFER_UNTIL, slots, view) < now)
    for name, plural, codes in (
        (PROMOTION, "promotions", np.where(ended, _NONE, promotion)),
        (SUPPLIER, "suppliers", _codes(SUPPLIER, slots, view)),
    ):
        if (codes != _NONE).any():
            values = view.table.attributes[name].values.values
            used, column = np.unique(codes, return_inverse=True)
            columns[name] = column.tolist()
            columns[plural] = ["" if code == _NONE else values[code] for code in used.tolist()]
    for name, least, otherwise in ((BID, LEAST_BID, 0.0), (BOOST, LEAST_BOOST, 1.0)):
        numbers = _numbers(name, slots, view)
        stated = numbers >= least
        if stated.any():
            columns[name] = np.where(stated, numbers, otherwise).tolist()
    return columns


def _codes(name: str, slots: Slots, view: ColumnsView) -> NDArray[np.int64]:
    """Code of the first value of an attribute for each slot, -1 where there is none: (n,)."""
    column = view.table.attributes.get(name)
    return column.first_of(slots) if column is not None else np.full(len(slots), _NONE)


def _numbers(name: str, slots: Slots, view: ColumnsView) -> NDArray[np.float64]:
    """The first value of an attribute as a number for each slot, NaN where there is none: (n,)."""
    codes = _codes(name, slots, view)
    numbers = np.full(len(slots), np.nan)
    stated = codes != _NONE
    if stated.any():
        numbers[stated] = view.table.attributes[name].values.numbers()[codes[stated]]
    return numbers
