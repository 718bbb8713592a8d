"""Prepares what the small Chinese encoder of docs/encoder.md is trained on and tested with.

    python scripts/ablations/chinese/shop.py --data SOUK_DATA --out DIR

DIR/texts.txt: Chinese shop reviews and queries, a text a line, to pre-train on. DIR/train and DIR/test: the Chinese
items of two generated shops of different seeds as datasets. Their judgements share no query: those of `train` are
drawn by a hash of the query, those of `test` are the others.
"""

import argparse
import hashlib
from pathlib import Path

import polars as pl

from training.data.canonical import DatasetWriter, Info, open_dataset
from training.data.generate import generate

_REVIEWS, _REVIEW_CHARACTERS, _QUERIES = 20_000, 120, 30_000
_SHOPS = {"train": (21, 3000), "test": (22, 3000)}


def main() -> None:
    """Writes all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Where the real data lie, SOUK_DATA.")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    reviews = pl.read_csv(given.data / "reviews_zh_10cats/reviews.csv.gz")["review"].drop_nulls()
    lines = (given.data / "zh_taobao_queries/train.query.txt").read_text(encoding="utf-8").splitlines()
    queries = pl.Series([line.split("\t")[-1] for line in lines])
    texts = [
        *reviews.sample(_REVIEWS, seed=0).str.replace_all(r"\s+", " ").str.slice(0, _REVIEW_CHARACTERS),
        *queries.sample(_QUERIES, seed=0),
    ]
    (given.out / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name, (seed, items) in _SHOPS.items():
        whole = given.out / f".{name}"
        generate(whole, items, 50, seed)
        dataset = open_dataset(whole)
        language = pl.read_parquet(whole / "truth/items.parquet").filter(pl.col("language") == "zh")
        chinese = dataset.items().filter(pl.col("item_id").is_in(language["item_id"].implode()))
        judged = dataset.judgements().filter(pl.col("language") == "zh")
        judged = judged.filter(pl.col("item_id").is_in(chinese["item_id"].implode()))
        chosen = judged["query"].map_elements(_to_learn, return_dtype=pl.Boolean)
        judged = judged.filter(chosen if name == "train" else ~chosen)
        with DatasetWriter(given.out / name, Info(f"chinese-{name}", "1", "generated", "CC0-1.0")) as writer:
            writer.write("items", chinese.to_arrow())
            writer.write("judgements", judged.to_arrow())
        print(f"{name}: {chinese.height} items, {judged['query'].n_unique()} queries, {judged.height} grades")


def _to_learn(query: str) -> bool:
    return hashlib.sha256(query.encode()).digest()[0] % 2 == 0


if __name__ == "__main__":
    main()
