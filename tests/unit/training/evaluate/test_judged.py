"""Products and judgements of two files or a dataset; what is wrong in them is refused with its place."""

import gzip
import json
from pathlib import Path

import pytest

from souk.dataset import DatasetError
from training.evaluate.judged import read_dataset, read_files

ITEMS = "item_id,title,brand,category\n1,red mug,Acme,Home > Mugs\n2,blue mug,Acme,Home > Mugs\n"
JUDGEMENTS = "query,item_id,grade\nmug,1,3\nmug,2,0\nlamp,1,0\n"


def files(path: Path, items: str = ITEMS, judgements: str = JUDGEMENTS, suffix: str = ".csv") -> tuple[Path, Path]:
    (path / f"items{suffix}").write_text(items)
    (path / "judgements.csv").write_text(judgements)
    return path / f"items{suffix}", path / "judgements.csv"


def test_two_files_and_the_directory_they_are_in(tmp_path: Path) -> None:
    judged = read_files(*files(tmp_path))
    assert [item.title for item in judged.items] == ["red mug", "blue mug"]
    assert [item.revision for item in judged.items] == [1, 1]
    assert judged.grades == {"mug": {"1": 3, "2": 0}}
    assert judged.without_relevant == 1
    again = read_dataset(tmp_path)
    assert (again.items, again.grades) == (judged.items, judged.grades)


def test_columns_that_nothing_reads_are_told(tmp_path: Path) -> None:
    row = {"id": "1", "title": "Toner", "supplier": "HP", "attr_t_type": "Original", "img_low": "x", "category": "Ink"}
    (tmp_path / "products.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "grades.csv").write_text("query,docid,rating\ntoner,1,3\n", encoding="utf-8")
    judged = read_files(tmp_path / "products.jsonl", tmp_path / "grades.csv")
    assert judged.unread == ("category",)
    assert judged.items[0].brand == "HP"


def test_the_format_of_chorus_icecat(tmp_path: Path) -> None:
    products = tmp_path / "products.jsonl.gz"
    full = {"id": "7", "title": "Sony WH-1", "supplier": "Sony", "price": 4995, "short_description": "Headphones"}
    with gzip.open(products, "wt") as lines:
        lines.write(json.dumps(full | {"attr_t_product_type": "Headphones", "attr_n_weight": 250.0}) + "\n")
        lines.write(json.dumps({"id": "8", "title": "Cable"}) + "\n")
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("query,docid,rating\nheadphones,7,3\nheadphones,8,1\n")
    judged = read_files(products, ratings)
    first, second = judged.items
    assert (first.brand, first.price, first.category_path[0]) == ("Sony", 49.95, "Headphones")
    assert (second.title, second.HasField("price")) == ("Cable", False)
    assert judged.grades == {"headphones": {"7": 3, "8": 1}}


def test_judgements_in_jsonl(tmp_path: Path) -> None:
    items, _ = files(tmp_path)
    lines = tmp_path / "graded.jsonl"
    lines.write_text('{"query": "mug", "item_id": "1", "grade": 2}\n')
    assert read_files(items, lines).grades == {"mug": {"1": 2}}


@pytest.mark.parametrize(
    ("items", "judgements", "refusal"),
    [
        (ITEMS, "query,item_id,grade\nmug,9,3\n", r"judgements.csv, row 1, item_id: '9' is not among the products"),
        (
            ITEMS,
            "query,item_id,grade\nmug,1,3\nmug,2,101\n",
            r"row 2, grade: must be a whole number from 0 to 100",
        ),
        (ITEMS, "query,item_id\nmug,1\n", r"judgements.csv, row 1, grade: must be given"),
        (ITEMS, "query,item_id,grade\n,1,1\n", r"judgements.csv, row 1, query: must be given"),
        (ITEMS, "query,item_id,grade,shade\nmug,1,1,x\n", r"row 1, shade: unknown column"),
        (ITEMS, "query,item_id,grade\nmug,1,1\nmug,1,2\n", r"row 2, grade: 2, but the same pair was graded 1 before"),
        (ITEMS, "query,item_id,grade\nmug,1,0\n", r"no query has an item graded above 0"),
        (ITEMS, f"query,item_id,grade\n{'q' * 513},1,1\n", r"row 1, query: 513 bytes; the limit is 512"),
        ("item_id,name\n1,mug\n", JUDGEMENTS, r"items.csv: unknown column 'name'"),
        ("item_id,title\n1,mug\n1,mug\n", JUDGEMENTS, r"items.csv, row 2, item_id: '1' stands here twice"),
        ("item_id,title\n1,\n", JUDGEMENTS, r"items.csv, row 1, title: is empty"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, items: str, judgements: str, refusal: str) -> None:
    with pytest.raises(DatasetError, match=refusal):
        read_files(*files(tmp_path, items, judgements))


@pytest.mark.parametrize(
    ("row", "refusal"),
    [
        ('{"id": "7"}', "items.jsonl, row 1, title: must be given, as text"),
        ('{"id": 7, "title": "x"}', "items.jsonl, row 1, id: must be given, as text"),
        ('{"id": "7", "title": "x", "price": "much"}', "items.jsonl, row 1: "),
        ('{"id": "7", ', "items.jsonl, row 1: is not JSON"),
    ],
)
def test_a_bad_product_of_chorus_icecat_is_refused(tmp_path: Path, row: str, refusal: str) -> None:
    with pytest.raises(DatasetError, match=refusal):
        read_files(*files(tmp_path, row + "\n", suffix=".jsonl"))


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    items, _ = files(tmp_path)
    with pytest.raises(DatasetError, match=r"none\.csv: no such file"):
        read_files(items, tmp_path / "none.csv")
    (tmp_path / "judged.xml").write_text("<a/>")
    with pytest.raises(DatasetError, match="unknown format"):
        read_files(items, tmp_path / "judged.xml")
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetError, match="no items table"):
        read_dataset(tmp_path / "other")
