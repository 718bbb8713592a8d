"""Chorus/Icecat as a dataset: properties, limits, judgements."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from souk.dataset import Judgement, read_items, read_judgements
from training.data.canonical import open_dataset
from training.data.chorus_icecat import load
from training.data.validate import validate


def product(number: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": "WH-1",
        "title": "Sony WH-1",
        "ean": ["123"],
        "img_high": "http://img.example/1.jpg",
        "date_released": "2009-12-10T00:00:00Z",
        "supplier": "Sony",
        "price": 4995,
        **more,
    }


def test_a_product_becomes_an_item(tmp_path: Path) -> None:
    products = [
        product(
            "1",
            attr_t_product_type="Headphones",
            attr_n_weight=250.0,
            attr_b_wireless=True,
            attr_t_compatibility=", ".join(f"Device {n}" for n in range(60)),
        ),
        product("2", title="x" * 1025),
        product("3", attr_t_product_type="1", **{f"attr_b_b{n}": True for n in range(70)}, attr_t_colour="red"),
        product("1"),
    ]
    with gzip.open(tmp_path / "products.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in products)
    (tmp_path / "Broad_Query_Set_rated.csv").write_text("query,docid,rating\nheadphones,1,3\nheadphones,1,2\nx,2,1\n")
    load(tmp_path, tmp_path / "out")
    first, third = read_items(tmp_path / "out")
    assert (first.brand, first.price, first.currency, list(first.category_path)) == (
        "Sony",
        49.95,
        "USD",
        ["Headphones"],
    )
    named = {one.name: list(one.values) for one in first.attributes}
    assert named.pop("compatibility") == [f"Device {n}" for n in range(32)]
    assert named == {
        "model": ["WH-1"],
        "ean": ["123"],
        "product type": ["Headphones"],
        "weight": ["250"],
        "wireless": ["yes"],
    }
    assert list(third.category_path) == []
    assert len(third.attributes) == 64
    assert "colour" in {one.name for one in third.attributes}
    assert list(read_judgements(tmp_path / "out")) == [Judgement("headphones", "1", 3, "en")]
    dropped = open_dataset(tmp_path / "out").info.dropped
    assert dropped["items"] == {"item.title: over its limit or malformed": 1, "id seen before": 1}
    assert dropped["judgements"] == {"pair judged before": 1, "item is not in the catalogue": 1}
    assert validate(tmp_path / "out").bad == {}


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"products\.jsonl\.gz"):
        load(tmp_path, tmp_path / "out")


def test_the_real_files_load_whole(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "chorus_icecat"
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    load(source, tmp_path / "out")
    assert open_dataset(tmp_path / "out").info.counts == {"items": 19_406, "judgements": 3_668}
    assert validate(tmp_path / "out").bad == {}
