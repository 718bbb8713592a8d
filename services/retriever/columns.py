"""The items in memory, column by column, each version of an item in its own slot.

A slot is written once: a change of an item takes a new slot and ends the old one. So a reader that holds a
`ColumnsView` sees one state of the catalogue however much is written meanwhile. Slots never leave the retriever.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.offers import number_of
from services.retriever.growing import Growing
from services.retriever.order import Mask, Slots, tie_key
from souk.types.v1 import types_pb2

# No item is ever here: what points to no item points here.
NOBODY = 0

CATEGORY_SEPARATOR = " > "
NOT_TRACKED = -1

_NUMERIC = {
    "revision": np.uint64,
    "price": np.float64,
    "currency": np.int32,
    "brand": np.int32,
    "category": np.int32,
    "stock": np.int64,
    "visible": np.bool_,
    "created_us": np.int64,
    "popularity": np.float64,
    "key": np.uint64,
}


def folded(text: str) -> str:
    """What texts share that differ in case only, or in whether their marks are letters of their own (NFC, NFD)."""
    return unicodedata.normalize("NFC", text.casefold())


class Dictionary:
    """Strings numbered in order of appearance; the empty string is 0. And which numbers mean the same, see `folded`."""

    def __init__(self, values: Sequence[str] = ("",)) -> None:
        self.values: list[str] = []
        self._codes: dict[str, int] = {}
        self._folded: dict[str, list[int]] = {}
        for value in values:
            self.code(value)

    def code(self, value: str) -> int:
        """The number of a string, given now if it is new. For the writer only."""
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
            self._folded.setdefault(folded(value), []).append(code)
        return code

    def find(self, value: str) -> int | None:
        """The number of a string."""
        return self._codes.get(value)

    def find_folded(self, value: str) -> list[int]:
        """Numbers of the strings that mean the same as this one, see `folded`."""
        return list(self._folded.get(folded(value), ()))


class Categories(Dictionary):
    """Category paths numbered as joined strings, and which of them lie below a place in the tree."""

    def __init__(self, values: Sequence[str] = ("",)) -> None:
        self._below: dict[str, list[int]] = {}
        super().__init__(values)

    def code(self, value: str) -> int:
        known = len(self.values)
        code = super().code(value)
        if code == known and value:
            names = value.split(CATEGORY_SEPARATOR)
            for depth in range(1, len(names) + 1):
                self._below.setdefault(_composed(names[:depth]), []).append(code)
        return code

    def below(self, names: Sequence[str]) -> list[int]:
        """Numbers of this path and of all paths below it."""
        return list(self._below.get(_composed(names), ()))


def _composed(names: Sequence[str]) -> str:
    return unicodedata.normalize("NFC", CATEGORY_SEPARATOR.join(names))


class AttributeValues(Dictionary):
    """The values of one attribute and the number that each reads as."""

    def __init__(self, values: Sequence[str]) -> None:
        self._numbers = Growing(np.float64, capacity=16)
        super().__init__(values)

    def code(self, value: str) -> int:
        known = len(self.values)
        code = super().code(value)
        if code == known:
            self._numbers.append(number_of(value))
        return code

    def numbers(self) -> NDArray[np.float64]:
        """The number of each value by code, NaN where it is none."""
        return self._numbers.view()


class AttributeColumn:
    """The values of one attribute: which slot has which value, in order of slots."""

    def __init__(self, values: "AttributeValues | None" = None) -> None:
        self.values = values or AttributeValues(())
        self._slots = Growing(np.int32, capacity=16)
        self._codes = Growing(np.int32, capacity=16)
        self.pairs: tuple[NDArray[np.int32], NDArray[np.int32]] = (self._slots.view(), self._codes.view())

    def append(self, slot: int, code: int) -> None:
        """Adds a pair of slot and value; no slot before those added earlier."""
        self._slots.append(slot)
        self._codes.append(code)
        # Replaced in one step: a reader never sees slots without their values.
        self.pairs = (self._slots.view(), self._codes.view())

    def extend(self, slots: NDArray[np.int32], codes: NDArray[np.int32]) -> None:
        """Adds pairs; see `append`."""
        self._slots.extend(slots)
        self._codes.extend(codes)
        self.pairs = (self._slots.view(), self._codes.view())

    def until(self, slot: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Pairs of the slots before `slot`."""
        slots, codes = self.pairs
        end = int(np.searchsorted(slots, slot))
        return slots[:end], codes[:end]

    def first_of(self, wanted: Slots) -> NDArray[np.int64]:
        """Code of the first value in each of some slots, -1 where there is none."""
        slots, codes = self.pairs
        at = np.searchsorted(slots, wanted)
        found = at < len(slots)
        found[found] = slots[at[found]] == wanted[found]
        first = np.full(len(wanted), -1)
        first[found] = codes[at[found]]
        return first


@dataclass(frozen=True)
class ColumnsView:
    """The items as they were at one moment. Arrays have one row a slot, `alive` False where a slot has ended."""

    size: int
    items: int
    alive: Mask
    revision: NDArray[np.uint64]
    price: NDArray[np.float64]
    currency: NDArray[np.int32]
    brand: NDArray[np.int32]
    category: NDArray[np.int32]
    stock: NDArray[np.int64]
    visible: Mask
    created_us: NDArray[np.int64]
    popularity: NDArray[np.float64]
    key: NDArray[np.uint64]
    table: "Columns"

    def find(self, item_id: str) -> int:
        """The slot of an item, NOBODY if it is not held."""
        slot = self.table.slot_of.get(item_id, NOBODY)
        while slot >= self.size:
            slot = self.table.previous[slot]
        return slot if self.alive[slot] else NOBODY

    @cached_property
    def shown(self) -> Mask:
        """Which slots hold a visible item. Not to be written to."""
        mask: Mask = self.alive & self.visible
        return mask

    @cached_property
    def shown_count(self) -> int:
        """How many items are visible."""
        return int(np.count_nonzero(self.shown))


class Columns:
    """The table behind the views. One thread writes; what it wrote counts for the views taken after."""

    def __init__(self) -> None:
        self.ids: list[str] = [""]
        self.titles: list[str] = [""]
        # Slot of the version before, NOBODY for the first.
        self.previous: list[int] = [NOBODY]
        self.slot_of: dict[str, int] = {}
        self.brands = Dictionary()
        self.currencies = Dictionary()
        self.categories = Categories()
        self.attributes: dict[str, AttributeColumn] = {}
        # Slots in the order in which they ended.
        self.ended: list[int] = []
        self.items = 0
        self._alive = Growing(np.bool_)
        self._numeric = {name: Growing(dtype) for name, dtype in _NUMERIC.items()}
        self._alive.append(False)
        for column in self._numeric.values():
            column.append(0)

    def held(self, item_id: str) -> int:
        """The slot of an item now, NOBODY if it is not held. For the writer only."""
        slot = self.slot_of.get(item_id, NOBODY)
        return slot if self._alive.view()[slot] else NOBODY

    def revision_at(self, slot: int) -> int:
        """Revision of the item in a slot."""
        return int(self._numeric["revision"].view()[slot])

    def brand_at(self, slot: int) -> str:
        """Brand of the item in a slot."""
        return self.brands.values[int(self._numeric["brand"].view()[slot])]

    def category_at(self, slot: int) -> str:
        """Category path of the item in a slot, joined."""
        return self.categories.values[int(self._numeric["category"].view()[slot])]

    def popularity_at(self, slot: int) -> float:
        """Popularity of the item in a slot."""
        return float(self._numeric["popularity"].view()[slot])

    def add(self, item: types_pb2.Item) -> int:
        """Writes an item into a new slot and returns it; the caller has ended the slot it had."""
        slot = self._alive.size
        created = item.created_at
        row = {
            "revision": item.revision,
            "price": item.price if item.HasField("price") else np.nan,
            "currency": self.currencies.code(item.currency),
            "brand": self.brands.code(item.brand),
            "category": self.categories.code(CATEGORY_SEPARATOR.join(item.category_path)),
            "stock": item.stock if item.HasField("stock") else NOT_TRACKED,
            "visible": item.visible if item.HasField("visible") else True,
            "created_us": created.seconds * 1_000_000 + created.nanos // 1000,
            "popularity": item.popularity,
            "key": tie_key(item.id),
        }
        for name, value in row.items():
            self._numeric[name].append(value)
        self.ids.append(item.id)
        self.titles.append(item.title)
        self.previous.append(self.slot_of.get(item.id, NOBODY))
        for attribute in item.attributes:
            attribute_name = folded(attribute.name)
            column = self.attributes.get(attribute_name)
            if column is None:
                column = self.attributes[attribute_name] = AttributeColumn()
            for text in attribute.values:
                column.append(slot, column.values.code(folded(text)))
        self._alive.append(True)
        self.items += 1
        self.slot_of[item.id] = slot
        return slot

    def end(self, slot: int) -> None:
        """The item in this slot is no longer so."""
        self._alive.view()[slot] = False
        self.ended.append(slot)
        self.items -= 1

    def view(self) -> ColumnsView:
        """The table as it is now."""
        columns = {name: column.view() for name, column in self._numeric.items()}
        alive = self._alive.view().copy()
        return ColumnsView(size=len(alive), items=self.items, alive=alive, table=self, **columns)

    def compacted(self, view: ColumnsView) -> tuple["Columns", NDArray[np.int32]]:
        """A new table with the items of a view, and the new slot of each old one (NOBODY where it had ended)."""
        fresh = Columns()
        fresh.brands, fresh.currencies, fresh.categories = self.brands, self.currencies, self.categories
        return fresh, fresh.take(self, view, np.flatnonzero(view.alive))

    def take(self, source: "Columns", view: ColumnsView, slots: Slots) -> NDArray[np.int32]:
        """Adds slots of another table, whose dictionaries but those of attributes are the same; returns the new slot of
        each slot of the view."""
        moved = np.full(view.size, NOBODY, dtype=np.int32)
        first = self._alive.size
        moved[slots] = np.arange(first, first + len(slots), dtype=np.int32)
        for name, column in self._numeric.items():
            column.extend(getattr(view, name)[slots])
        self._alive.extend(view.alive[slots])
        self.items += int(np.count_nonzero(view.alive[slots]))
        for old in slots.tolist():
            self.slot_of[source.ids[old]] = len(self.ids)
            self.ids.append(source.ids[old])
            self.titles.append(source.titles[old])
            self.previous.append(NOBODY)
        for name, pairs in list(source.attributes.items()):
            column_slots, codes = pairs.until(view.size)
            kept = moved[column_slots] != NOBODY
            if kept.any():
                target = self.attributes.setdefault(name, AttributeColumn())
                # Values that no item has any more are left behind: bids and times of offers are ever new ones.
                used, place = np.unique(codes[kept], return_inverse=True)
                known = np.array([target.values.code(pairs.values.values[code]) for code in used.tolist()], np.int32)
                target.extend(moved[column_slots[kept]], known[place])
        return moved

    def arrays(self, view: ColumnsView) -> dict[str, NDArray[Any]]:
        """Everything in a view as plain arrays, for a snapshot."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(view, name) for name in _NUMERIC}
        arrays["alive"] = view.alive
        texts = {
            "ids": self.ids[: view.size],
            "titles": self.titles[: view.size],
            "brands": self.brands.values,
            "currencies": self.currencies.values,
            "categories": self.categories.values,
        }
        names = list(self.attributes)
        texts["attributes"] = names
        for number, name in enumerate(names):
            column = self.attributes[name]
            slots, codes = column.until(view.size)
            arrays[f"attribute_slots_{number}"] = slots
            arrays[f"attribute_codes_{number}"] = codes
            texts[f"attribute_values_{number}"] = column.values.values
        for name, values in texts.items():
            arrays.update(pack_texts(name, list(values)))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Columns":
        """The table that `arrays` was made of."""
        table = cls()
        table.brands = Dictionary(unpack_texts("brands", arrays))
        table.currencies = Dictionary(unpack_texts("currencies", arrays))
        table.categories = Categories(unpack_texts("categories", arrays))
        table.ids = unpack_texts("ids", arrays)
        table.titles = unpack_texts("titles", arrays)
        table.previous = [NOBODY] * len(table.ids)
        for name, column in table._numeric.items():
            column.extend(arrays[name][1:])
        table._alive.extend(arrays["alive"][1:])
        for slot in np.flatnonzero(arrays["alive"]).tolist():
            table.slot_of[table.ids[slot]] = slot
        table.items = len(table.slot_of)
        for number, name in enumerate(unpack_texts("attributes", arrays)):
            values = AttributeValues(unpack_texts(f"attribute_values_{number}", arrays))
            table.attributes[name] = AttributeColumn(values)
            table.attributes[name].extend(arrays[f"attribute_slots_{number}"], arrays[f"attribute_codes_{number}"])
        return table


def pack_texts(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Strings as two arrays: their UTF-8 bytes and where each ends."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}.ends": ends}


def unpack_texts(name: str, arrays: dict[str, NDArray[Any]]) -> list[str]:
    """The strings that `pack_texts` packed."""
    content = arrays[f"{name}.bytes"].tobytes()
    ends = arrays[f"{name}.ends"].tolist()
    return [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
