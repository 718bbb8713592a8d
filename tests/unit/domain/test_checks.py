"""Every limit of the contract is refused by name, and nothing within the limits is."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.checks import Invalid, check_id, check_item, check_text, check_vector
from souk.types.v1 import types_pb2
from souk.vectors import pack_matrix, pack_vector, unpack_matrix, unpack_vector


def item() -> types_pb2.Item:
    return types_pb2.Item(id="a", title="Mug", price=3.5, currency="EUR", stock=0, category_path=["Home", "Mugs"])


def set_to(**values: object) -> Callable[[types_pb2.Item], None]:
    def change(one: types_pb2.Item) -> None:
        for name, value in values.items():
            setattr(one, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to(id=""), "items[3].id: is empty"),
        (set_to(id="x" * 129), "items[3].id: 129 bytes; the limit is 128"),
        (set_to(id="a\x00b"), "items[3].id: holds a control character"),
        (set_to(title=" "), "items[3].title: is empty"),
        (set_to(title="é" * 513), "items[3].title: 1026 bytes; the limit is 1024"),
        (set_to(title="a\x00"), "items[3].title: holds a null character"),
        (set_to(description="d" * 16385), "items[3].description: 16385 bytes; the limit is 16384"),
        (set_to(price=-1.0), "items[3].price: -1.0; it must be finite and 0 or more"),
        (set_to(price=float("nan")), "items[3].price: nan; it must be finite and 0 or more"),
        (set_to(currency="euro"), "items[3].currency: 'euro' is not an ISO 4217 code of three capital letters"),
        (set_to(stock=-1), "items[3].stock: -1; it must be 0 or more"),
        (set_to(popularity=float("inf")), "items[3].popularity: inf; it must be finite and 0 or more"),
        (lambda one: one.category_path.extend("abcdefgh"), "items[3].category_path: holds 10; it must hold 0 to 8"),
        (
            lambda one: one.category_path.append("a>b"),
            "items[3].category_path[2]: holds '>', which separates categories",
        ),
        (
            lambda one: one.attributes.extend([types_pb2.Attribute(name="n", values=["1"])] * 2),
            "items[3].attributes[1].name: 'n' stands here twice",
        ),
        (
            lambda one: one.attributes.add(name="n"),
            "items[3].attributes[0].values: holds 0; it must hold 1 to 32",
        ),
        (
            lambda one: setattr(one.created_at, "seconds", -62135596801),
            "items[3].created_at: lies outside the years 1 to 9999",
        ),
    ],
)
def test_an_item_beyond_a_limit_is_refused_by_name(change: Callable[[types_pb2.Item], object], message: str) -> None:
    one = item()
    change(one)
    with pytest.raises(Invalid) as caught:
        check_item(one, "items[3]")
    assert str(caught.value) == message


def test_an_item_at_the_limits_passes() -> None:
    one = item()
    one.title = "x" * 1024
    one.category_path.extend("abcdef")
    one.attributes.extend(types_pb2.Attribute(name=f"n{i}", values=["v"] * 32) for i in range(64))
    check_item(one, "item")


@given(st.text(max_size=200))
def test_an_id_is_accepted_exactly_within_its_limits(value: str) -> None:
    fits = 1 <= len(value.encode()) <= 128 and not any(ord(c) < 32 or ord(c) == 127 for c in value)
    if fits:
        check_id(value, "id")
    else:
        with pytest.raises(Invalid):
            check_id(value, "id")


def test_empty_text_passes_only_where_it_may() -> None:
    check_text("", "field", 10, allow_empty=True)
    with pytest.raises(Invalid, match="field: is empty"):
        check_text("", "field", 10)


def vector(**changes: object) -> types_pb2.Vector:
    packed = pack_vector(np.array([1, 2, 3], dtype=np.float32))
    for name, value in changes.items():
        setattr(packed, name, value)
    return packed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (vector(dim=4), "v.data: 12 bytes; 1 x 4 numbers of this format take 16"),
        (vector(dim=0), "v.dim: 0; it must be 1 to 4096"),
        (vector(dtype=9), "v.dtype: 9 is not a known number format"),
        (vector(data=np.array([1, np.nan, 0], "<f4").tobytes()), "v.data: holds a number that is not finite"),
        (vector(data=bytes(12)), "v.data: is all zero and has no direction"),
    ],
)
def test_a_wrong_vector_is_refused_by_name(wrong: types_pb2.Vector, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_vector(wrong, "v")
    assert str(caught.value) == message


def test_a_vector_of_another_space_is_refused() -> None:
    with pytest.raises(Invalid, match=r"v\.dim: 3; this space has 384"):
        check_vector(vector(), "v", dim=384)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_vectors_come_back_as_they_went(numbers: list[float]) -> None:
    array = np.array(numbers, dtype=np.float32)
    np.testing.assert_array_equal(unpack_vector(pack_vector(array)), array)
    np.testing.assert_array_equal(unpack_matrix(pack_matrix(np.stack([array, array]))), np.stack([array, array]))


def test_half_precision_is_read() -> None:
    half = types_pb2.Vector(data=np.array([0.5, -2], "<f2").tobytes(), dim=2, dtype=types_pb2.DTYPE_FLOAT16)
    np.testing.assert_array_equal(unpack_vector(half), np.array([0.5, -2], np.float32))
