"""The cleaning of Online Retail II: on a dirty toy copy, and on the real files against their cleaned ones."""

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from training.data.online_retail import clean, load
from training.data.validate import validate

Line = tuple[str, str, str, int, datetime, float, int | None, str]


def raw(directory: Path, first: list[Line], second: list[Line]) -> Path:
    (directory / "raw").mkdir()
    names = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
    kinds = [pl.String, pl.String, pl.String, pl.Int64, pl.Datetime("us"), pl.Float64, pl.Int64, pl.String]
    schema: dict[str, Any] = dict(zip(names, kinds, strict=True))
    early = pl.DataFrame(first, schema, orient="row")
    early.with_columns(pl.col("InvoiceDate").dt.to_string("%Y-%m-%d %H:%M:%S")).write_parquet(
        directory / "raw" / "year_2009_2010.parquet"
    )
    late = pl.DataFrame(second, schema, orient="row").with_columns(pl.col("Customer ID").cast(pl.Float64))
    late.write_parquet(directory / "raw" / "year_2010_2011.parquet")
    return directory


def test_every_kind_of_dirt_is_counted(tmp_path: Path) -> None:
    old, new = datetime(2010, 11, 30, 9), datetime(2010, 12, 1, 8, 26)
    first: list[Line] = [
        ("1", "10001", "LAMP", 2, old, 3.0, 7, "France"),
        ("1", "10001", "LAMP", 2, old, 3.0, 7, "France"),
        ("1", "10001a", "nan", 1, old, 4.0, 7, "France"),
        ("2", "POST", "POSTAGE", 1, old, 18.0, 7, "France"),
        ("3", "10001", "lamp?", 1, old, 3.0, None, "France"),
        ("4", "10001", "damaged", -5, old, 0.0, None, "France"),
        ("5", "10001", "LAMP", 1, old, 0.0, 7, "France"),
        ("6", "10001", "LAMP", 1, new, 5.0, 8, "Spain"),
    ]
    second: list[Line] = [
        ("6", "10001", "LAMP", 1, new, 5.0, 8, "Spain"),
        ("6", "10001A", "RED LAMP", 3, new, 4.0, 8, "Spain"),
        ("C7", "10001", "LAMP", -1, datetime(2010, 12, 5), 5.0, 8, "Spain"),
        ("C8", "10009", "GONE", -1, datetime(2010, 12, 5), 5.0, 8, "Spain"),
        ("9", "10009", "GONE", 1, datetime(2010, 12, 5), 5.0, None, "Unspecified"),
    ]
    cleaned = clean(raw(tmp_path, first, second))
    assert cleaned.dropped == {
        "events": {
            "in both files": 1,
            "no customer": 3,
            "not a product (postage, fee, voucher, correction, test)": 1,
            "price is not above 0": 1,
            "same line twice in one invoice": 1,
            "return of an item never sold": 1,
        },
        "items": {"never bought by a known customer": 1},
    }
    events = cleaned.events.select("shopper_id", "type", "item_id", "quantity", "price").rows()
    assert events == [
        ("7", "PURCHASE", "10001", 2, 3.0),
        ("7", "PURCHASE", "10001A", 1, 4.0),
        ("8", "PURCHASE", "10001", 1, 5.0),
        ("8", "PURCHASE", "10001A", 3, 4.0),
        ("8", "RETURN", "10001", 1, 5.0),
    ]
    items = cleaned.items.select("item_id", "title", "price", "popularity").rows()
    assert items == [("10001", "LAMP", 4.0, 3.0), ("10001A", "RED LAMP", 4.0, 4.0)]
    assert cleaned.items["created_at"].dt.replace_time_zone(None).to_list() == [old, old]
    assert cleaned.shoppers.rows() == [("7", '{"country": ["France"]}'), ("8", '{"country": ["Spain"]}')]
    load(tmp_path, tmp_path / "out")
    assert validate(tmp_path / "out").bad == {}


def test_nothing_to_load_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither raw/year_2009_2010\.parquet"):
        clean(tmp_path)


def test_the_real_files_are_cleaned_as_well_as_the_cleaned_ones(real_data: Path) -> None:
    source = real_data / "online_retail_ii"
    if not (source / "raw").is_dir():
        pytest.skip(f"no raw files in {source}")
    ours = clean(source)
    theirs = pl.read_parquet(source / "events.parquet")
    bought = ours.events.filter(pl.col("type") == "PURCHASE")
    assert bought.height == theirs.height == 776_577
    assert bought["shopper_id"].n_unique() == theirs["customer"].n_unique() == 5_852
    assert set(ours.items["item_id"]) == set(theirs["sku"])
    keys = ["shopper_id", "item_id", "quantity", "price", "time"]
    given = theirs.select(
        pl.col("customer").cast(pl.String).alias("shopper_id"),
        pl.col("sku").alias("item_id"),
        pl.col("quantity").cast(pl.UInt32),
        "price",
        pl.col("time").dt.replace_time_zone("UTC"),
    )
    assert given.join(bought.select(keys), on=keys, how="anti").height == 0
    assert bought.join(given, on=keys, how="anti").height == 0
    assert (ours.events["type"] == "RETURN").sum() > 17_000


def test_the_cleaned_files_alone_do_too(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "online_retail_ii").is_dir():
        pytest.skip(f"no online_retail_ii in {real_data}")
    for name in ("events.parquet", "items.csv", "users.csv"):
        (tmp_path / name).symlink_to((real_data / "online_retail_ii" / name).resolve())
    cleaned = clean(tmp_path)
    assert (cleaned.items.height, cleaned.shoppers.height, cleaned.events.height) == (4_619, 5_852, 776_577)
    assert cleaned.items["title"].null_count() == 0
