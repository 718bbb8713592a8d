"""Pairs of reviews and categories: each review in one place, the category's name in none of its texts."""

import csv
import gzip
from pathlib import Path

import pytest

from scripts.ablations.chinese.reviews import make
from souk.dataset import read_items, read_judgements
from training.encoder.pairs import read_pairs
from training.encoder.shops import Shop

ITEMS, QUERIES = {"train": 6, "test": 3}, {"train": 4, "test": 2}


def write_reviews(file: Path, each: int = 15) -> dict[str, set[str]]:
    """Reviews of three categories, each of which says its own thing; all texts by category."""
    said = {"水果": "苹果很甜", "酒店": "房间干净", "平板": "屏幕清楚"}
    texts = {category: {f"{words}{n}号，下次再来" for n in range(each)} for category, words in said.items()}
    with gzip.open(file, "wt", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["cat", "label", "review"])
        rows.writerows([category, 1, text] for category, own in texts.items() for text in sorted(own))
    return texts


def test_queries_are_answered_by_the_reviews_of_their_category(tmp_path: Path) -> None:
    texts = write_reviews(tmp_path / "reviews.csv.gz")
    make(tmp_path / "reviews.csv.gz", tmp_path / "out", ITEMS, QUERIES)
    train, test = ({one.id: one.title for one in read_items(tmp_path / "out" / name)} for name in ("train", "test"))
    assert (len(train), len(test)) == (18, 9)
    pairs = read_pairs(tmp_path / "out" / "pairs.parquet")
    graded = [(one.query, train[one.item_id]) for one in pairs]
    judged = [(one.query, test[one.item_id]) for one in read_judgements(tmp_path / "out" / "test")]
    assert (len(graded), len(judged)) == (3 * 6 * (1 + 4), 3 * 3 * 2)
    for query, item in graded + judged:
        (category,) = [name for name, own in texts.items() if item in own]
        assert query == category or any(one.startswith(query) for one in texts[category])
    # Nothing is learned that is asked, and no query is the beginning of what it is to find.
    assert not {query for query, _ in graded} & {query for query, _ in judged}
    assert not set(train.values()) & set(test.values())
    assert not any(item.startswith(query) for query, item in graded + judged)
    assert {(one.grade, one.source) for one in pairs} == {(3.0, "category:name"), (1.0, "category:review")}
    shop = Shop.open(tmp_path / "out" / "train", pairs, 0.2, 7)
    assert len(shop.learn) + len(shop.held) == 15


def test_a_category_with_too_few_reviews_is_named(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv.gz", each=14)
    with pytest.raises(ValueError, match=r"cat .*: 14 different reviews, 15 are needed"):
        make(tmp_path / "reviews.csv.gz", tmp_path / "out", ITEMS, QUERIES)
    assert not (tmp_path / "out").exists()
