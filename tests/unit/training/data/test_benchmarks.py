"""Loaders of benchmarks: counts, limits, ids that say nothing, on toy copies and on the real files."""

import gzip
import json
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.data import amazon_beauty, amazon_scientific, completejourney
from training.data.canonical import Dataset, NoTime, open_dataset
from training.data.numbering import renumbered
from training.data.validate import validate


def test_new_ids_depend_on_the_set_of_old_ones_alone() -> None:
    ids = [str(number) for number in range(100)]
    once = renumbered(ids, "I", 7)
    assert renumbered(reversed(ids), "I", 7) == once
    assert renumbered(ids, "I", 8) != once
    assert len(set(once.values())) == 100
    numbers = [int(once[old][1:]) for old in ids]
    assert abs(np.corrcoef(np.arange(100), numbers)[0, 1]) < 0.3


def test_beauty(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "s3rec_id,asin,title,brand,price,categories,keywords\n"
        f"1,B1,{'x' * 2000},Acme,9.5,Makeup|Nails > Polish,\n"
        "2,B2,Comb,,,,\n"
    )
    (tmp_path / "sequences.txt").write_text("1 1 2 9\n2 2\n")
    amazon_beauty.load(tmp_path, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert not validate(tmp_path / "out").bad
    items = dataset.items().sort("title")
    assert items["title"].str.len_bytes().to_list() == [4, 1024]
    assert items["category"].to_list() == [None, "Makeup > Nails / Polish"]
    assert items["currency"].to_list() == [None, "USD"]
    assert dataset.info.dropped == {"events": {"the item is not in the catalogue": 1}}
    assert sorted(dataset.events()["order"].to_list()) == [0, 0, 1]
    with pytest.raises(NoTime):
        dataset.require_time("this test")


def test_scientific(tmp_path: Path) -> None:
    items = {
        "0": {"title": "Relay", "description": "A relay.", "brand": "Acme", "categories": "Industrial,Relays"},
        "1": {"title": "Staple", "description": "", "brand": "", "categories": ""},
    }
    with gzip.open(tmp_path / "Scientific.item.json.gz", "wt") as file:
        json.dump(items, file)
    (tmp_path / "Scientific.inter.json").write_text(json.dumps({"0": [1, 0], "1": [0]}))
    amazon_scientific.load(tmp_path, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert not validate(tmp_path / "out").bad
    title_of = dict(dataset.items().select("item_id", "title").iter_rows())
    longest = dataset.events().filter(pl.len().over("shopper_id") == 2).sort("order")
    assert [title_of[item] for item in longest["item_id"]] == ["Staple", "Relay"]


def test_completejourney(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "product_id": ["1", "2"],
            "manufacturer_id": ["2", "69"],
            "department": ["GROCERY", "MISC"],
            "brand": ["National", "Private"],
            "product_category": ["FRZN ICE", None],
            "product_type": ["ICE - CRUSHED", None],
            "package_size": ["22 LB", None],
        }
    ).write_parquet(tmp_path / "products.parquet")
    told = {name: ["x"] for name in completejourney._TOLD}
    pl.DataFrame({"household_id": ["7"], **told}).write_parquet(tmp_path / "demographics.parquet")
    pl.DataFrame(
        {
            "household_id": ["7", "8", "8", "8", "8"],
            "basket_id": ["a", "b", "b", "b", "b"],
            "product_id": ["1", "1", "2", "9", "2"],
            "quantity": [2.0, 0.0, 1.0, 1.0, 9000.0],
            "sales_value": [5.0, 5.0, 0.0, 5.0, 20.0],
            "transaction_timestamp": [datetime(2017, 1, day) for day in range(1, 6)],
        }
    ).write_parquet(tmp_path / "transactions_sample.parquet")
    pl.DataFrame(
        {
            "campaign_id": ["26"],
            "campaign_type": ["Type A"],
            "start_date": [date(2017, 1, 1)],
            "end_date": [date(2017, 1, 31)],
        }
    ).write_parquet(tmp_path / "campaign_descriptions.parquet")
    pl.DataFrame(
        {"campaign_id": ["26"] * 3, "coupon_upc": ["77", "77", "88"], "product_id": ["2", "1", "9"]}
    ).write_parquet(tmp_path / "coupons.parquet")
    pl.DataFrame(
        {
            "household_id": ["7", "7", "5", "7"],
            "coupon_upc": ["77", "77", "77", "88"],
            "campaign_id": ["26"] * 4,
            "redemption_date": [date(2017, 1, 9)] * 4,
        }
    ).write_parquet(tmp_path / "coupon_redemptions.parquet")
    completejourney.load(tmp_path, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert not validate(tmp_path / "out").bad
    # Besides four lines, a redemption by nobody known and one of a coupon whose products nobody sells.
    assert sum(dataset.info.dropped["events"].values()) == 6
    event, redeemed = dataset.events().to_dicts()
    assert (event["price"], event["quantity"]) == (2.5, 2)
    assert dataset.shoppers()["attributes"].drop_nulls().len() == 1
    items = {item["title"]: item for item in dataset.items().to_dicts()}
    assert set(items) == {"Ice - Crushed 22 lb", "Misc", "Coupon: Ice - Crushed"}
    coupon = items["Coupon: Ice - Crushed"]
    assert (redeemed["item_id"], redeemed["type"], redeemed["scene"]) == (coupon["item_id"], "CLICK", "CAMPAIGN")
    said = json.loads(coupon["attributes"])
    # What is sold stands first.
    assert said["about"] == [items[title]["item_id"] for title in ("Ice - Crushed 22 lb", "Misc")]
    assert (said["kind"], said["offer_from"], said["offer_until"]) == (["coupon"], ["1483228800"], ["1485907199"])


@pytest.mark.parametrize(
    ("loader", "folder", "counts"),
    [
        (amazon_beauty.load, "amazon_beauty_2014", {"items": 12_101, "shoppers": 22_363, "events": 198_502}),
        (amazon_scientific.load, "amazon_scientific_2018", {"items": 4_344, "shoppers": 8_317, "events": 58_492}),
        (completejourney.load, "completejourney", {"items": 93_528, "shoppers": 2_372, "events": 75_880}),
    ],
)
def test_the_real_files(real_data: Path, tmp_path: Path, loader, folder, counts) -> None:  # type: ignore[no-untyped-def]
    if not (real_data / folder).is_dir():
        pytest.skip(f"{folder} is not among the real data")
    loader(real_data / folder, tmp_path / "out")
    dataset: Dataset = open_dataset(tmp_path / "out")
    assert dataset.info.counts == counts
    assert_numbering_says_nothing(dataset)


def assert_numbering_says_nothing(dataset: Dataset) -> None:
    """In the source a new item is often the largest number so far + 1; here it is no likelier than any other."""
    events = dataset.events()
    order = "time" if events["order"].is_null().all() else "order"
    numbers = events.sort("shopper_id", order)["item_id"].str.slice(1).cast(pl.Int64).to_numpy()
    follows = np.mean(np.diff(numbers) == 1)
    assert follows < 10 / dataset.info.counts["items"] + 0.001
