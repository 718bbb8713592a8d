"""What a shop does with an item, as its attributes say: promotes it, is paid for it, makes a campaign of it."""

import math
from collections.abc import Iterator, Sequence

from souk.types.v1 import types_pb2

PROMOTION = "promotion"
"""Name of the promotion that the item is on."""
OFFER_FROM, OFFER_UNTIL = "offer_from", "offer_until"
"""When the promotion or campaign runs, both included, in seconds since 1970-01-01 UTC; absent: always."""
BID = "bid"
"""What is paid for a click, in one currency for all items."""
BOOST = "boost"
"""The shop's factor on the item's score."""
ABOUT = "about"
"""Ids of the items that a campaign is about."""
KIND = "kind"
CAMPAIGNS = ("campaign", "coupon")
"""Values of KIND of what is itself recommended in CAMPAIGN, and nowhere else."""
SUPPLIER = "supplier"

LEAST_BID = 1e-6
"""A smaller bid is none."""
LEAST_BOOST = 1e-3
"""A smaller boost is none."""

# No words of the item: a new bid or promotion makes no new vector.
_UNSPOKEN = frozenset((PROMOTION, OFFER_FROM, OFFER_UNTIL, BID, BOOST, ABOUT))


def describing(item: types_pb2.Item) -> Iterator[types_pb2.Attribute]:
    """The attributes that are words of the item."""
    return (one for one in item.attributes if one.name.casefold() not in _UNSPOKEN)


def is_campaign(item: types_pb2.Item) -> bool:
    """Whether the item is itself a campaign or coupon."""
    return any(value.casefold() in CAMPAIGNS for value in values_of(item, KIND))


def values_of(item: types_pb2.Item, name: str) -> Sequence[str]:
    """The values of an attribute (case of its name aside), none where the item has it not."""
    return next((list(one.values) for one in item.attributes if one.name.casefold() == name), ())


def promoted(item: types_pb2.Item) -> tuple[float, float]:
    """From when to when the item is on promotion, in seconds since 1970 UTC; NaN both where it never is."""
    if not values_of(item, PROMOTION):
        return math.nan, math.nan
    first, last = (next(map(number_of, values_of(item, name)), math.nan) for name in (OFFER_FROM, OFFER_UNTIL))
    return (-math.inf if math.isnan(first) else first), (math.inf if math.isnan(last) else last)


def number_of(text: str) -> float:
    """The number that a text reads as, NaN where it does not."""
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
