"""Short ways to write the filter tree of a search: `all_of(brand("Acme"), price(max=20), in_stock())`."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from souk.retriever.v1.retriever_pb2 import (
    AttributeFilter,
    CategoryFilter,
    CategoryPath,
    Filter,
    FilterList,
    NumberRange,
    PriceRange,
    StringList,
    TimeRange,
)


def all_of(*filters: Filter) -> Filter:
    """All of these hold."""
    return Filter(all=FilterList(filters=filters))


def any_of(*filters: Filter) -> Filter:
    """At least one of these holds."""
    return Filter(any=FilterList(filters=filters))


def none_of(*filters: Filter) -> Filter:
    """None of these holds."""
    return Filter(**{"not": any_of(*filters)})  # type: ignore[arg-type]


def brand(*names: str) -> Filter:
    """The brand is one of these."""
    return Filter(brand=StringList(values=names))


def category(*names: str) -> Filter:
    """The category path begins with these names, from the root."""
    return Filter(category=CategoryFilter(paths=[CategoryPath(names=names)]))


def price(min: float | None = None, max: float | None = None, currency: str = "") -> Filter:
    """The price lies in a range, ends included."""
    return Filter(price=PriceRange(min=min, max=max, currency=currency))


def in_stock(yes: bool = True) -> Filter:
    """Whether the item can be sold."""
    return Filter(in_stock=yes)


def attribute(name: str, values: Sequence[str] = (), min: float | None = None, max: float | None = None) -> Filter:
    """The attribute has one of the values or, without these, is a number in a range or, without ends, is there."""
    if not values and min is None and max is None:
        return Filter(attribute=AttributeFilter(name=name, present=True))
    if values:
        return Filter(attribute=AttributeFilter(name=name, any_of=StringList(values=values)))
    return Filter(attribute=AttributeFilter(name=name, range=NumberRange(min=min, max=max)))


def created(since: datetime | None = None, until: datetime | None = None) -> Filter:
    """The shop first offered the item within a time; both must carry their time zone."""
    time_range = TimeRange()
    for moment, end in ((since, getattr(time_range, "from")), (until, time_range.to)):
        if moment is not None:
            stamp = Timestamp()
            stamp.FromDatetime(moment)
            end.CopyFrom(stamp)
    return Filter(created_at=time_range)
