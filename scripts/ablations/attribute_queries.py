"""Products and judged queries of a fashion catalogue: what is asked for are values of columns, so every grade is known.

    python scripts/ablations/attribute_queries.py --styles $SOUK_DATA/fashion/styles.csv.gz --part 1 --out DIR
    python -m training evaluate search --products DIR/products.jsonl --judgements DIR/judgements.csv

A part is 6,000 of the products, drawn by `--seed`. Queries are kinds of article alone or with colour, gender or use
("red shirts", "green shirts for men"), 30 of each form with at least 5 products that are all of it: those are graded 3,
other articles of the kind 1. Grades follow what the text says, so words alone are hard to beat here.
"""

import argparse
import csv
import gzip
import json
import random
from collections import Counter
from pathlib import Path

_PART = 6000
_FORMS = (
    (("articleType",), "{0}"),
    (("baseColour", "articleType"), "{0} {1}"),
    (("gender", "articleType"), "{0}'s {1}"),
    (("gender", "baseColour", "articleType"), "{1} {2} for {0}"),
    (("usage", "articleType"), "{0} {1}"),
)
_EACH = 30
_FEWEST = 5


def main() -> None:
    """Writes products.jsonl and judgements.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with gzip.open(given.styles, "rt", encoding="utf-8") as lines:
        # 22 rows of the source have a column too many.
        rows = [row for row in csv.DictReader(lines) if row["productDisplayName"] and None not in row]
    rng.shuffle(rows)
    rows = rows[given.part * _PART : (given.part + 1) * _PART]
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "products.jsonl").open("w", encoding="utf-8") as products:
        for row in rows:
            item = {
                "item_id": row["id"],
                "title": row["productDisplayName"],
                "category": [row["masterCategory"], row["subCategory"], row["articleType"]],
                "attributes": {name: row[name] for name in ("baseColour", "gender", "season", "usage") if row[name]},
            }
            products.write(json.dumps(item) + "\n")
    queries: dict[str, dict[str, str]] = {}
    for columns, form in _FORMS:
        held = Counter(tuple(row[name] for name in columns) for row in rows)
        often = sorted(values for values, count in held.items() if count >= _FEWEST and all(values))
        for values in rng.sample(often, min(_EACH, len(often))):
            queries.setdefault(form.format(*values).lower(), dict(zip(columns, values, strict=True)))
    with (given.out / "judgements.csv").open("w", encoding="utf-8", newline="") as judgements:
        writer = csv.writer(judgements)
        writer.writerow(("query", "item_id", "grade"))
        for query, wanted in queries.items():
            for row in rows:
                if row["articleType"] == wanted["articleType"]:
                    all_of_it = all(row[name] == value for name, value in wanted.items())
                    writer.writerow((query, row["id"], 3 if all_of_it else 1))
    print(f"{len(rows)} products, {len(queries)} queries -> {given.out}")


if __name__ == "__main__":
    main()
