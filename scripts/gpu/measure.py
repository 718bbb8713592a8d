"""How well encoders find by vectors alone what was judged: exact search among all items of a dataset.

python scripts/gpu/measure.py --dataset DIR --out FILE.json MODEL...

Models are BERT directories; the first is what the others are compared with.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.encoder.loop import processes
from training.encoder.model import encode, load
from training.encoder.pairs import judged_pairs
from training.encoder.quick_eval import Exam
from training.encoder.shops import Shop
from training.evaluate.bootstrap import paired_bootstrap

QUERY_TOKENS, ITEM_TOKENS = 32, 128


def main() -> None:
    """Prints and writes the measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="Canonical dataset with judgements.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("models", type=Path, nargs="+")
    given = parser.parse_args()
    found = measure(given.dataset, given.models)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, one in found["models"].items():
        print(name, ", ".join(f"{key} {one[key]:.4f}" for key in ("as_zero", "condensed", "recall")), flush=True)


def measure(dataset: Path, models: list[Path]) -> dict[str, Any]:
    """Means over the judged queries that have an answer, and the gain over the first model with its 95% interval."""
    # All queries are asked; which of them would be held out from a training does not matter.
    shop = Shop.open(dataset, judged_pairs(dataset), held_out=0.5, seed=7)
    exam = Exam.of(shop, [*shop.held, *shop.learn], len(shop.texts), seed=7)
    said: dict[str, Any] = {}
    with processes() as device:
        for number, path in enumerate(models):
            model = load(path)
            model.module.to(device)
            queries = encode(model, [query.text for query in exam.queries], QUERY_TOKENS)
            found = exam.measure(queries, encode(model, exam.texts, ITEM_TOKENS))
            own: dict[str, Any] = {
                "as_zero": float(found.ndcg.mean()),
                "condensed": float(found.condensed.mean()),
                "recall": float(found.recall.mean()),
            }
            if number == 0:
                first = found
            else:
                for rule, here, there in (
                    ("as_zero", found.ndcg, first.ndcg),
                    ("condensed", found.condensed, first.condensed),
                ):
                    gain = paired_bootstrap(here.astype(np.float64), there.astype(np.float64))
                    own[f"gain_{rule}"] = asdict(gain)
            said[path.name] = own
    return {"queries": len(exam.queries), "items": len(exam.texts), "models": said}


if __name__ == "__main__":
    main()
