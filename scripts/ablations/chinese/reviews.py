"""Makes something to learn from of reviews that have a category, where a language has no shop and no query at hand.

    python scripts/ablations/chinese/reviews.py --data SOUK_DATA --out DIR

DIR/train: reviews as items, without their category, and in DIR/pairs.parquet queries that all reviews of a category
answer: its name, and how other reviews of it begin. DIR/test: other reviews and beginnings of again others, as
judgements. DIR/texts.txt: what is left, without categories, to pre-train on. No review is in two of these five places.
"""

import argparse
import re
from itertools import islice
from pathlib import Path

import polars as pl

from training.data.canonical import DatasetWriter, Info
from training.encoder.pairs import Pair, write_pairs

ITEMS, QUERIES = {"train": 150, "test": 50}, {"train": 100, "test": 20}
"""Of each category."""
TEXTS = 2_000
"""Of each category, at most."""
_ITEM_CHARACTERS, _QUERY_CHARACTERS = 120, 24
_END_OF_CLAUSE = re.compile(r"[。！？；，、,.!?;~～…\s]+")
_LEAST = 4
# How sure it is that a review answers: that it is of the category, and that it is like another one of it.
_NAMED, _ALIKE = 3, 1


def main() -> None:
    """Writes all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Where the real data lie, SOUK_DATA.")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    make(given.data / "reviews_zh_10cats/reviews.csv.gz", given.out)


def make(reviews: Path, out: Path, items: dict[str, int] = ITEMS, queries: dict[str, int] = QUERIES) -> None:
    """`reviews`: CSV with the columns cat and review. Raises ValueError where a category has too few."""
    by_category = _read(reviews)
    needed = sum(items.values()) + sum(queries.values())
    left = {category: iter(texts) for category, texts in by_category.items()}
    for category, texts in by_category.items():
        if len(texts) < needed:
            raise ValueError(f"{reviews}, cat {category}: {len(texts)} different reviews, {needed} are needed")
    for name in ("train", "test"):
        rows, grades, asked = [], [], set[str]()
        for category, others in left.items():
            ids = [f"{category}-{name}-{number}" for number in range(items[name])]
            rows += [{"item_id": one, "title": next(others)[:_ITEM_CHARACTERS]} for one in ids]
            begun = [_beginning(next(others)) for _ in range(queries[name])]
            # What begins reviews of two categories tells none of them.
            begun = [one for one in dict.fromkeys(begun) if one not in asked]
            asked.update(begun)
            if name == "train":
                grades += [Pair(category, one, _NAMED, "category:name") for one in ids]
            grades += [Pair(query, one, _ALIKE, "category:review") for query in begun for one in ids]
        info = Info(f"chinese-reviews-{name}", "1", "reviews_zh_10cats", "see DATA.md beside the file")
        with DatasetWriter(out / name, info) as writer:
            writer.write("items", rows)
            if name == "test":
                columns = ("query", "item_id", "grade")
                judged = [{column: getattr(one, column) for column in columns} for one in grades]
                writer.write("judgements", judged)
        if name == "train":
            write_pairs(out / "pairs.parquet", grades)
        print(f"{name}: {len(rows)} reviews, {len({one.query for one in grades})} queries, {len(grades)} pairs")
    rest = [text for others in left.values() for text in islice(others, TEXTS)]
    (out / "texts.txt").write_text("".join(f"{text}\n" for text in rest))
    print(f"texts: {len(rest)} other reviews")


def _read(reviews: Path) -> dict[str, list[str]]:
    """Different reviews by category, in an order drawn by seed."""
    frame = pl.read_csv(reviews).select("cat", pl.col("review").str.replace_all(r"\s+", " ").str.strip_chars())
    frame = frame.filter(pl.col("review").str.len_chars() >= _LEAST).unique("review", maintain_order=True)
    frame = frame.sample(fraction=1, shuffle=True, seed=0)
    groups = frame.group_by("cat", maintain_order=True).agg("review").sort("cat")
    return dict(zip(groups["cat"].to_list(), groups["review"].to_list(), strict=True))


def _beginning(review: str) -> str:
    """Its first clause that says something, cut; all of it where there is none."""
    clauses = [one for one in _END_OF_CLAUSE.split(review) if len(one) >= _LEAST]
    return (clauses[0] if clauses else review)[:_QUERY_CHARACTERS]


if __name__ == "__main__":
    main()
