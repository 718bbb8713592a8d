"""What each way of training the encoder brings in a small fixed budget of steps, measured on judged queries.

    python scripts/ablations/encoder.py --dataset CHORUS --pairs PAIRS --out results.jsonl

Learns from synthetic pairs alone, so every judged query is a test; each looks for its answers among all items with a
grade. Runs that the results hold already are left out:
stopped and run again it goes on with the next one.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.encoder.export import default_model
from training.encoder.finetune import Finetune, FinetuneConfig
from training.encoder.loop import Loop
from training.encoder.model import Model, encode, load
from training.encoder.pairs import judged_pairs, read_pairs
from training.encoder.pretrain import Pretrain, PretrainConfig
from training.encoder.quick_eval import Exam
from training.encoder.shops import Shop

# Title, brand and category, mostly: what a slow machine has time for.
TOKENS = 32
BUDGET = FinetuneConfig(
    steps=24, batch=24, chunk=64, learning_rate=1e-4, evaluate_every=24, patience=0, negatives=0,
    item_tokens=TOKENS, query_tokens=16, evaluate_items=200, held_out=0.005, warm_up=0.2,
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "full": {},
    "lora": {"adapter": "lora", "learning_rate": 2e-3},
    "fgm": {"adversarial": "fgm"},
    "pgd": {"adversarial": "pgd", "pgd_steps": 2},
    "mlm first": {},
}
MLM = PretrainConfig(
    steps=24,
    batch=24,
    learning_rate=1e-4,
    evaluate_every=24,
    patience=0,
    tokens=TOKENS,
    held_out=0.002,
)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="Canonical dataset with judgements.")
    parser.add_argument("--pairs", type=Path, required=True, help="What `encoder queries` wrote.")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run.")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=BUDGET.steps)
    parser.add_argument(
        "--queries", type=int, default=1000, help="Judged queries to measure by, at most, and their items."
    )
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    judged = Shop.open(given.dataset, judged_pairs(given.dataset), 0.5, 0)
    exam = Exam.of(judged, [*judged.learn, *judged.held][: given.queries], 0, 0)
    shop = Shop.open(given.dataset, read_pairs(given.pairs), BUDGET.held_out, 0)
    for seed in given.seeds:
        for variant in given.variants:
            # Nothing is drawn where nothing is trained.
            number = 0 if variant == "untrained" else seed
            if any((one["variant"], one["seed"]) == (variant, number) for one in done):
                continue
            started = time.monotonic()
            model, share = trained(variant, number, given.steps, shop)
            items = encode(model, exam.texts, TOKENS)
            found = exam.measure(encode(model, [query.text for query in exam.queries], 16), items)
            result = {
                "variant": variant,
                "seed": number,
                "as_zero": float(found.ndcg.mean()),
                "condensed": float(found.condensed.mean()),
                "recall": float(found.recall.mean()),
                "trainable": share,
                "seconds": time.monotonic() - started,
            }
            done.append(result)
            with given.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
    table(done)


def trained(variant: str, seed: int, steps: int, shop: Shop) -> tuple[Model, float]:
    """The encoder after this variant's training, and the share of its weights that were trained."""
    model = load(default_model())
    if variant == "untrained":
        return model, 0.0
    config = replace(BUDGET, seed=seed, steps=steps, evaluate_every=steps, **VARIANTS[variant])
    with tempfile.TemporaryDirectory() as work:
        if variant == "mlm first":
            gaps = replace(MLM, seed=seed, steps=steps, evaluate_every=steps)
            first = Pretrain(model, shop.texts, gaps)
            Loop(first, gaps, Path(work) / "mlm", Path(work) / "board", lambda *told: None).run()
        task = Finetune(model, [shop], config, {})
        share = task.trainable_share()
        Loop(task, config, Path(work) / "fine", Path(work) / "board", lambda *told: None).run()
        return task.finished(), share


def table(done: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the seeds, as Markdown."""
    print("| variant | nDCG@10 as-zero | condensed | recall@10 | trainable | s a run |\n" + "| --- " * 6 + "|")
    for variant in VARIANTS:
        runs = [one for one in done if one["variant"] == variant]
        if runs:
            cells = []
            for name in ("as_zero", "condensed", "recall"):
                values = [one[name] for one in runs]
                spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.4f}{spread}")
            seconds = np.mean([one["seconds"] for one in runs])
            print(f"| {variant} ({len(runs)}) | {' | '.join(cells)} | {runs[0]['trainable']:.2%} | {seconds:.0f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
