"""A filter tree -> which slots pass, by look-up tables over the codes of each column."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from services.domain.checks import Invalid, check_count, check_text
from services.retriever.columns import ColumnsView, folded
from services.retriever.order import Mask
from souk.retriever.v1 import retriever_pb2

MAX_NODES = 96
MAX_DEPTH = 10

_CURRENCY = re.compile(r"[A-Z]{3}")


def check_filter(root: retriever_pb2.Filter, field: str = "filter") -> None:
    """Raises Invalid, naming the node by its path, for whatever the contract does not allow in a filter."""
    nodes = 0

    def walk(node: retriever_pb2.Filter, path: str, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES:
            raise Invalid(field, f"holds more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise Invalid(path, f"lies {depth} deep; the limit is {MAX_DEPTH}")
        kind = node.WhichOneof("node")
        here = f"{path}.{kind}"
        match kind:
            case "all" | "any":
                children = getattr(node, kind).filters
                check_count(children, f"{here}.filters", 1, 32)
                for i, child in enumerate(children):
                    walk(child, f"{here}.filters[{i}]", depth + 1)
            case "not":
                walk(_negated(node), here, depth + 1)
            case "brand":
                check_count(node.brand.values, f"{here}.values", 1, 256)
            case "category":
                check_count(node.category.paths, f"{here}.paths", 1, 64)
                for i, category in enumerate(node.category.paths):
                    names = f"{here}.paths[{i}].names"
                    check_count(category.names, names, 1, 8)
                    for j, name in enumerate(category.names):
                        if ">" in name:
                            raise Invalid(f"{names}[{j}]", "holds '>', which separates categories")
            case "price":
                _check_ends(node.price, here)
                if node.price.currency and not _CURRENCY.fullmatch(node.price.currency):
                    problem = f"{node.price.currency!r} is not an ISO 4217 code of three capital letters"
                    raise Invalid(f"{here}.currency", problem)
            case "created_at":
                for end in ("from", "to"):
                    if node.created_at.HasField(end):
                        _check_time(getattr(node.created_at, end), f"{here}.{end}")
                first, last = getattr(node.created_at, "from"), node.created_at.to
                both = node.created_at.HasField("from") and node.created_at.HasField("to")
                if both and _microseconds(first) > _microseconds(last):
                    raise Invalid(f"{here}.from", "is after to: nothing could pass")
            case "attribute":
                check_text(node.attribute.name, f"{here}.name", 64)
                condition = node.attribute.WhichOneof("condition")
                if condition == "any_of":
                    check_count(node.attribute.any_of.values, f"{here}.any_of.values", 1, 256)
                elif condition == "range":
                    _check_ends(node.attribute.range, f"{here}.range")
                elif condition is None:
                    raise Invalid(here, "says no condition; set any_of, range or present")
            case None:
                raise Invalid(path, "is empty; set one of its nodes")

    walk(root, field, 1)


def passing(root: retriever_pb2.Filter | None, view: ColumnsView) -> Mask:
    """Which slots hold an item that passes a checked filter, shape (view.size,). Not to be written to.

    Without a `visible` node anywhere in the tree hidden items do not pass.
    """
    if root is None:
        return view.shown
    base = view.alive if _says_visible(root) else view.shown
    mask: Mask = _evaluate(root, view) & base
    return mask


def _says_visible(node: retriever_pb2.Filter) -> bool:
    match node.WhichOneof("node"):
        case "visible":
            return True
        case "all":
            return any(_says_visible(child) for child in node.all.filters)
        case "any":
            return any(_says_visible(child) for child in node.any.filters)
        case "not":
            return _says_visible(_negated(node))
        case _:
            return False


def _evaluate(node: retriever_pb2.Filter, view: ColumnsView) -> Mask:
    match node.WhichOneof("node"):
        case "all":
            return _combined(np.logical_and, node.all.filters, view)
        case "any":
            return _combined(np.logical_or, node.any.filters, view)
        case "not":
            return ~_evaluate(_negated(node), view)
        case "brand":
            brands = view.table.brands
            wanted = [code for value in node.brand.values for code in brands.find_folded(value)]
            return _coded(view.brand, wanted, len(brands.values))
        case "category":
            categories = view.table.categories
            wanted = [code for path in node.category.paths for code in categories.below(path.names)]
            return _coded(view.category, wanted, len(categories.values))
        case "price":
            return _priced(node.price, view)
        case "in_stock":
            in_stock: Mask = view.stock != 0
            return in_stock if node.in_stock else ~in_stock
        case "visible":
            return view.visible if node.visible else ~view.visible
        case "attribute":
            return _attributed(node.attribute, view)
        case _:
            return _offered(node.created_at, view)


def _combined(join: Callable[..., Mask], children: Iterable[retriever_pb2.Filter], view: ColumnsView) -> Mask:
    first, *rest = children
    mask = _evaluate(first, view)
    for child in rest:
        mask = join(mask, _evaluate(child, view))
    return mask


def _coded(column: NDArray[np.int32], wanted: list[int], codes: int) -> Mask:
    """Rows whose code is wanted. `codes` is counted after `wanted` was looked up, so it covers all of them."""
    if not wanted:
        return np.zeros(len(column), dtype=np.bool_)
    if len(wanted) == 1:
        single: Mask = column == wanted[0]
        return single
    table = np.zeros(codes, dtype=np.bool_)
    table[wanted] = True
    return np.take(table, column)


def _priced(wanted: retriever_pb2.PriceRange, view: ColumnsView) -> Mask:
    mask = _between(view.price, wanted)
    if wanted.currency:
        code = view.table.currencies.find(wanted.currency)
        mask &= _coded(view.currency, [] if code is None else [code], 0)
    return mask


def _attributed(wanted: retriever_pb2.AttributeFilter, view: ColumnsView) -> Mask:
    mask = np.zeros(view.size, dtype=np.bool_)
    condition = wanted.WhichOneof("condition")
    column = view.table.attributes.get(folded(wanted.name))
    if column is None:
        return ~mask if condition == "present" and not wanted.present else mask
    slots, codes = column.until(view.size)
    if condition == "present":
        mask[slots] = True
        return mask if wanted.present else ~mask
    if condition == "any_of":
        found = [column.values.find(folded(value)) for value in wanted.any_of.values]
        table = np.zeros(len(column.values.values), dtype=np.bool_)
        table[[code for code in found if code is not None]] = True
    else:
        table = _between(column.values.numbers(), wanted.range)
    mask[slots[np.take(table, codes)]] = True
    return mask


def _offered(wanted: retriever_pb2.TimeRange, view: ColumnsView) -> Mask:
    mask = np.ones(view.size, dtype=np.bool_)
    if wanted.HasField("from"):
        mask &= view.created_us >= _microseconds(getattr(wanted, "from"))
    if wanted.HasField("to"):
        mask &= view.created_us <= _microseconds(wanted.to)
    return mask


def _between(values: NDArray[np.float64], wanted: Any) -> Mask:
    """Values from `wanted.min` to `wanted.max`, both included; NaN never."""
    mask = ~np.isnan(values)
    if wanted.HasField("min"):
        mask &= values >= wanted.min
    if wanted.HasField("max"):
        mask &= values <= wanted.max
    return mask


def _check_ends(wanted: Any, path: str) -> None:
    for end in ("min", "max"):
        if wanted.HasField(end) and not math.isfinite(getattr(wanted, end)):
            raise Invalid(f"{path}.{end}", f"{getattr(wanted, end)}; it must be finite")
    if wanted.HasField("min") and wanted.HasField("max") and wanted.min > wanted.max:
        raise Invalid(f"{path}.min", f"{wanted.min} is above max, {wanted.max}: nothing could pass")


def _check_time(time: Timestamp, path: str) -> None:
    if not -62135596800 <= time.seconds <= 253402300799 or not 0 <= time.nanos < 1_000_000_000:
        raise Invalid(path, "lies outside the years 1 to 9999")


def _microseconds(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def _negated(node: retriever_pb2.Filter) -> retriever_pb2.Filter:
    # `not` is a word of Python's own.
    child: retriever_pb2.Filter = getattr(node, "not")
    return child
