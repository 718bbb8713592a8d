"""Any CSV by a mapping: columns, constants, properties, and what was left out and why."""

from pathlib import Path

import pytest

from souk.dataset import DatasetError, read_events, read_items
from training.data.canonical import open_dataset
from training.data.csv_mapping import load
from training.data.validate import validate

MAPPING = """
[dataset]
name = "toy"
version = "1"
origin = "made up"
licence = "CC0-1.0"

[items]
file = "products.csv"
delimiter = ";"
category_separator = "/"
value_separator = "|"
decimal_comma = true
columns = { item_id = "SKU", title = "Name", price = "Price", category = "Path", visible = "Online" }
constants = { currency = "EUR" }
attributes = { colour = "Colour" }
values = { visible = { "1" = "true", "0" = "false" } }

[events]
file = "orders.csv"
columns = { shopper_id = "customer", item_id = "sku", time = "at" }
constants = { type = "PURCHASE" }
"""
PRODUCTS = """SKU;Name;Price;Path;Colour;Online
1;Red sofa;1.234,50;Home/Living > Room;red|dark red;1
2;Lamp;free;Home;;1
3;;5,00;Home;;0
4;Rug;5,00;;;0
4;Rug again;5,00;;;0
"""
ORDERS = """customer,sku,at
c1,1,2025-01-01T10:00:00
c2,9,2025-01-01T10:00:00
c2,4,soon
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "products.csv").write_text(PRODUCTS)
    (tmp_path / "orders.csv").write_text(ORDERS)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    return tmp_path


def test_rows_are_mapped_and_bad_ones_counted_by_reason(source: Path) -> None:
    load(source, source / "out", source / "mapping.toml")
    first, second = read_items(source / "out")
    assert (first.id, first.title, first.price, first.currency) == ("1", "Red sofa", 1234.5, "EUR")
    assert list(first.category_path) == ["Home", "Living / Room"]
    assert [(one.name, list(one.values)) for one in first.attributes] == [("colour", ["red", "dark red"])]
    assert (second.id, second.visible, list(second.category_path)) == ("4", False, [])
    (event,) = read_events(source / "out")
    assert (event.event_id, event.time.seconds) == ("orders.csv:1", 1735725600)
    info = open_dataset(source / "out").info
    assert info.dropped["items"] == {
        "price: must be a finite number": 1,
        "item.title: over its limit or malformed": 1,
        "seen before": 1,
    }
    assert sum(info.dropped["events"].values()) == 2
    assert "item_id: not in the catalogue" in info.dropped["events"]
    assert validate(source / "out").bad == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "toy"', "", "must give name"),
        ("[items]", "[products]", r"\[items\] is missing"),
        ("[events]", "[orders]", r"\[orders\] is unknown"),
        ('file = "orders.csv"', "", "file is missing"),
        ('title = "Name"', 'headline = "Name"', "headline is unknown"),
        ('type = "PURCHASE"', "", "type is missing"),
        ("delimiter", "separator", "unknown keys separator"),
        ('delimiter = ";"', 'delimiter = ";;"', "delimiter must be one character, not ';;'"),
        ('title = "Name"', 'title = "Title"', "no column 'Title'; it has SKU, Name"),
        ('file = "orders.csv"', 'file = "sales.csv"', "No such file"),
        ("[dataset]", "[dataset", "mapping.toml"),
    ],
)
def test_a_wrong_mapping_is_told_and_writes_nothing(source: Path, old: str, new: str, problem: str) -> None:
    mapping = source / "mapping.toml"
    mapping.write_text(MAPPING.replace(old, new))
    with pytest.raises(DatasetError, match=problem):
        load(source, source / "out", mapping)
    assert {path.name for path in source.iterdir()} == {"products.csv", "orders.csv", "mapping.toml"}


def test_a_table_without_a_usable_row_is_refused(source: Path) -> None:
    (source / "orders.csv").write_text("customer,sku,at\nc,9,2025-01-01\n")
    with pytest.raises(DatasetError, match=r"no row of events could be used: .*not in the catalogue"):
        load(source, source / "out", source / "mapping.toml")


def test_a_row_with_more_values_than_columns_is_left_out_and_counted(source: Path) -> None:
    # "Lamp; small" was not quoted: its price would stand in the category's place.
    (source / "products.csv").write_text(PRODUCTS + "5;Lamp; small;5,00;Home;;1\n6;Rug;5,00;;;1;\n7;Rug;5,00\n")
    load(source, source / "out", source / "mapping.toml")
    assert [item.id for item in read_items(source / "out")] == ["1", "4", "6", "7"]
    assert open_dataset(source / "out").info.dropped["items"]["row: more values than the header has columns"] == 1


def test_times_of_a_format_of_their_own_are_read(source: Path) -> None:
    mapping = MAPPING.replace('file = "orders.csv"', 'file = "orders.csv"\ntime_format = "%d.%m.%Y %H:%M"')
    (source / "mapping.toml").write_text(mapping)
    (source / "orders.csv").write_text("customer,sku,at\nc1,1,01.01.2025 10:00\nc2,1,2025-13-01\n")
    load(source, source / "out", source / "mapping.toml")
    (event,) = read_events(source / "out")
    assert event.time.seconds == 1735725600
    assert sum(open_dataset(source / "out").info.dropped["events"].values()) == 1
