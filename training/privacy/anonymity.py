"""How many shoppers share all their attributes: k-anonymity (Sweeney 2002) and l-diversity (Machanavajjhala 2006)."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.canonical import open_dataset

OTHER = "other"
Attributes = Mapping[str, str]


@dataclass(frozen=True)
class Way:
    """One generalisation, and how many shoppers it would leave in groups that are too small."""

    what: str
    at_risk: int


@dataclass(frozen=True)
class Anonymity:
    """Of `shoppers` in `groups` of equal attributes: the smallest group, and who is in one below `k`."""

    k: int
    shoppers: int
    groups: int
    smallest: int
    at_risk: int
    sensitive: str
    least_diverse: int
    """Fewest different values of `sensitive` in a group (distinct l-diversity); 0 where none is named."""
    ways: tuple[Way, ...]
    """Best first; empty where nobody is at risk."""


def check(shoppers: Sequence[Attributes], quasi: Sequence[str], k: int, sensitive: str = "") -> Anonymity:
    """Groups shoppers by the attributes `quasi`; one that is absent is a value too.

    Raises ValueError where k is below 2, nobody has one of the attributes, or the sensitive one is among `quasi`.
    """
    if k < 2:
        raise ValueError(f"k must be at least 2, not {k}")
    known = {name for one in shoppers for name in one}
    if absent := [name for name in [*quasi, *filter(None, [sensitive])] if name not in known]:
        raise ValueError(
            f"no shopper has the attribute {', '.join(absent)}; there are {', '.join(sorted(known)) or 'none'}"
        )
    if sensitive in quasi:
        raise ValueError(f"{sensitive} cannot be both what is grouped by and what is sensitive")
    rows = [tuple(one.get(name, "") for name in quasi) for one in shoppers]
    groups = Counter(rows)
    values: dict[tuple[str, ...], set[str]] = defaultdict(set)
    if sensitive:
        for row, one in zip(rows, shoppers, strict=True):
            values[row].add(one.get(sensitive, ""))
    at_risk = _at_risk(rows, k)
    return Anonymity(
        k=k,
        shoppers=len(rows),
        groups=len(groups),
        smallest=min(groups.values(), default=0),
        at_risk=at_risk,
        sensitive=sensitive,
        least_diverse=min(map(len, values.values()), default=0),
        ways=_ways(rows, quasi, k) if at_risk else (),
    )


def read_attributes(dataset: Path) -> list[dict[str, str]]:
    """The attributes of all shoppers of a dataset, several values of one as one. Raises DatasetError.

    Who is known by events or impressions alone has none.
    """
    data = open_dataset(dataset)
    shoppers = data.shoppers()
    rows = [json.loads(text or "{}") for text in shoppers["attributes"]]
    seen = {one for table in (data.events(), data.impressions()) for one in table["shopper_id"].unique() if one}
    rows += [{}] * len(seen.difference(shoppers["shopper_id"]))
    # As JSON: joined by a comma, "a, b" and "a" with "b" would be one group.
    return [
        {name: values[0] if len(values) == 1 else json.dumps(sorted(values)) for name, values in row.items()}
        for row in rows
    ]


def _at_risk(rows: Iterable[tuple[str, ...]], k: int) -> int:
    return sum(size for size in Counter(rows).values() if size < k)


def _ways(rows: Sequence[tuple[str, ...]], quasi: Sequence[str], k: int) -> tuple[Way, ...]:
    ways = []
    for place, name in enumerate(quasi):
        left = [row[:place] + row[place + 1 :] for row in rows]
        ways.append(Way(f"leave out {name}", _at_risk(left, k)))
        counts = Counter(row[place] for row in rows)
        rare = {value for value, count in counts.items() if count < k}
        if rare:
            merged = [(*row[:place], OTHER, *row[place + 1 :]) if row[place] in rare else row for row in rows]
            ways.append(Way(f"{name}: one value for its {len(rare)} rare ones", _at_risk(merged, k)))
    return tuple(sorted(ways, key=lambda way: (way.at_risk, way.what)))
