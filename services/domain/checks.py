"""Checks of what callers send: each names the field and the limit, in the words of the contract's comments."""

import math
import re
from collections.abc import Sequence

import numpy as np

from souk.types.v1 import types_pb2
from souk.vectors import Float32, unpack_vector

MAX_ID_BYTES = 128
MAX_ITEM_TITLE_BYTES = 1024
MAX_ITEM_DESCRIPTION_BYTES = 16384
MAX_CATEGORY_DEPTH = 8
MAX_ATTRIBUTES = 64

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Invalid(ValueError):
    """A field of a request is malformed or beyond its limit; reaches the caller as INVALID_ARGUMENT."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def check_id(value: str, field: str) -> None:
    """An identifier: 1 to 128 bytes without control characters."""
    if not value:
        raise Invalid(field, "is empty")
    size = len(value.encode())
    if size > MAX_ID_BYTES:
        raise Invalid(field, f"{size} bytes; the limit is {MAX_ID_BYTES}")
    if _CONTROL.search(value):
        raise Invalid(field, "holds a control character")


def check_text(value: str, field: str, max_bytes: int, allow_empty: bool = False) -> None:
    """Free text of at most `max_bytes` bytes without null characters; with something visible unless `allow_empty`."""
    size = len(value.encode())
    if size > max_bytes:
        raise Invalid(field, f"{size} bytes; the limit is {max_bytes}")
    if "\x00" in value:
        raise Invalid(field, "holds a null character")
    if not allow_empty and not value.strip():
        raise Invalid(field, "is empty")


def check_range(value: float, field: str, low: float, high: float) -> None:
    """A number from `low` to `high`, both included."""
    if not low <= value <= high:
        raise Invalid(field, f"{value}; it must be {low} to {high}")


def check_count(values: Sequence[object], field: str, low: int, high: int) -> None:
    """How many values a repeated field holds."""
    if not low <= len(values) <= high:
        raise Invalid(field, f"holds {len(values)}; it must hold {low} to {high}")


def check_vector(vector: types_pb2.Vector, field: str, dim: int | None = None) -> Float32:
    """The vector as float32 of shape (dim,): finite, not all zero, of length `dim` where that is given."""
    try:
        array = unpack_vector(vector, field)
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise Invalid(name, problem) from None
    if dim is not None and array.shape[0] != dim:
        raise Invalid(f"{field}.dim", f"{array.shape[0]}; this space has {dim}")
    if not np.isfinite(array).all():
        raise Invalid(f"{field}.data", "holds a number that is not finite")
    if not array.any():
        raise Invalid(f"{field}.data", "is all zero and has no direction")
    return array


def check_attributes(attributes: Sequence[types_pb2.Attribute], field: str, limit: int = MAX_ATTRIBUTES) -> None:
    """Named properties: each name once, 1 to 32 values each."""
    check_count(attributes, field, 0, limit)
    names: set[str] = set()
    for i, attribute in enumerate(attributes):
        at = f"{field}[{i}]"
        check_text(attribute.name, f"{at}.name", 64)
        if attribute.name in names:
            raise Invalid(f"{at}.name", f"{attribute.name!r} stands here twice")
        names.add(attribute.name)
        check_count(attribute.values, f"{at}.values", 1, 32)
        for j, value in enumerate(attribute.values):
            check_text(value, f"{at}.values[{j}]", 256)


def check_money(value: float, currency: str, field: str, currency_field: str) -> None:
    """A price: finite, 0 or more, with an ISO 4217 currency."""
    if not math.isfinite(value) or value < 0:
        raise Invalid(field, f"{value}; it must be finite and 0 or more")
    if not _CURRENCY.fullmatch(currency):
        raise Invalid(currency_field, f"{currency!r} is not an ISO 4217 code of three capital letters")


def check_item(item: types_pb2.Item, field: str) -> None:
    """Every limit that the contract sets for an item."""
    check_id(item.id, f"{field}.id")
    check_text(item.title, f"{field}.title", MAX_ITEM_TITLE_BYTES)
    check_text(item.description, f"{field}.description", MAX_ITEM_DESCRIPTION_BYTES, allow_empty=True)
    check_text(item.brand, f"{field}.brand", 256, allow_empty=True)
    check_count(item.category_path, f"{field}.category_path", 0, MAX_CATEGORY_DEPTH)
    for i, name in enumerate(item.category_path):
        at = f"{field}.category_path[{i}]"
        check_text(name, at, 128)
        if ">" in name:
            raise Invalid(at, "holds '>', which separates categories")
    if item.HasField("price"):
        check_money(item.price, item.currency, f"{field}.price", f"{field}.currency")
    check_attributes(item.attributes, f"{field}.attributes")
    check_text(item.image_url, f"{field}.image_url", 2048, allow_empty=True)
    if item.HasField("stock") and item.stock < 0:
        raise Invalid(f"{field}.stock", f"{item.stock}; it must be 0 or more")
    if item.HasField("created_at"):
        seconds = item.created_at.seconds
        # The years a Timestamp can hold: 0001 to 9999.
        if not -62135596800 <= seconds <= 253402300799 or not 0 <= item.created_at.nanos < 1_000_000_000:
            raise Invalid(f"{field}.created_at", "lies outside the years 1 to 9999")
    if item.HasField("popularity") and (not math.isfinite(item.popularity) or item.popularity < 0):
        raise Invalid(f"{field}.popularity", f"{item.popularity}; it must be finite and 0 or more")
