"""What each way of fine-tuning brings over the untrained encoder in a small fixed budget, measured on judged queries.

    python scripts/ablations/encoder.py --dataset SHOP --pairs PAIRS --out results.jsonl
    python scripts/ablations/encoder.py --dataset SHOP --pairs PAIRS --measure OTHER_SHOP --out results.jsonl

PAIRS is what `encoder queries` made of SHOP. All variants but the last two learn from it alone, so every judged query
is a test. "labels" and "labels + synthetic" learn SHOP's judgements, too, cross-fitted: the queries of each fold
(training/tune/folds.py) are measured with a model that learned those of the other folds. Queries in another script than
Latin are left out, since all-MiniLM-L6-v2 cannot read them. Each query looks for its answers among all items that have
a grade for one of those measured. Runs that the results hold already are left out: stopped and run again it goes on
with the next one.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.domain.text import scripts_of
from training.encoder.export import default_model
from training.encoder.finetune import Finetune, FinetuneConfig
from training.encoder.loop import Loop, Task
from training.encoder.model import Model, encode, load
from training.encoder.pairs import Pair, judged_pairs, read_pairs
from training.encoder.pretrain import Pretrain, PretrainConfig
from training.encoder.quick_eval import Exam
from training.encoder.running import quiet_console
from training.encoder.shops import Shop
from training.evaluate.bootstrap import paired_bootstrap
from training.tune.folds import FOLDS, fold_of, query_key

BUDGET = FinetuneConfig(
    steps=20, batch=24, chunk=64, learning_rate=1e-4, evaluate_every=20, patience=0, negatives=0, guided=True,
    breadth=1.0, query_tokens=16, item_tokens=24, held_out=0.001,
)  # fmt: skip
LABELS = ("labels", "labels + synthetic")
VARIANTS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "full": {},
    "unguided": {"guided": False},
    "lora": {"adapter": "lora", "learning_rate": 5e-4},
    "fgm": {"adversarial": "fgm"},
    "pgd": {"adversarial": "pgd", "pgd_steps": 2},
    "mlm first": {},
    # What people found irrelevant is half of what labels tell.
    **{name: {"negatives": 1, "negatives_by": ()} for name in LABELS},
}
MLM = PretrainConfig(batch=24, learning_rate=1e-4, patience=0, tokens=24, held_out=0.002)
MEASURES = ("as_zero", "condensed", "recall")


class ToTheEnd(Finetune):
    """Fine-tuning whose last weights stand: nothing is chosen on the way, since the judged queries are to tell."""

    _asked = 0

    def evaluate(self) -> dict[str, float]:
        """How often it was asked."""
        self._asked += 1
        return {self.chosen: float(self._asked)}


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="Canonical dataset to learn from.")
    parser.add_argument("--pairs", type=Path, required=True, help="What `encoder queries` wrote for it.")
    parser.add_argument("--measure", type=Path, help="Dataset whose judged queries measure. Default: the same.")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run.")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)), help="Of the judged queries.")
    parser.add_argument("--steps", type=int, default=BUDGET.steps)
    parser.add_argument("--item-tokens", type=int, default=BUDGET.item_tokens)
    given = parser.parse_args()
    budget = replace(BUDGET, steps=given.steps, evaluate_every=given.steps, item_tokens=given.item_tokens)
    measured = given.measure or given.dataset
    judged = Shop.open(
        measured, [one for one in _readable(judged_pairs(measured)) if fold_of(one.query) in given.folds], 0.5, 0
    )
    exam = Exam.of(judged, [*judged.learn, *judged.held], 0, 0)
    synthetic, labels = _readable(read_pairs(given.pairs)), _readable(judged_pairs(given.dataset))
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    runs = []
    for seed in given.seeds:
        for variant in given.variants:
            # Nothing is drawn where nothing is trained, and no fold is kept from what reads no judgement.
            number = 0 if variant == "untrained" else seed
            for fold in given.folds if variant in LABELS else [None]:
                if (variant, number, fold) not in runs:
                    runs.append((variant, number, fold))
    known = {(one["variant"], one["seed"], one["fold"]) for one in done}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=quiet_console()) as progress:
        bar = progress.add_task("runs", total=len(runs))
        for variant, seed, fold in runs:
            progress.update(bar, description=f"{variant}, seed {seed}" + ("" if fold is None else f", fold {fold}"))
            if (variant, seed, fold) not in known:
                started = time.monotonic()
                pairs = synthetic if variant != "labels" else []
                if variant in LABELS:
                    pairs = [*pairs, *(one for one in labels if fold_of(one.query) != fold)]
                shop = Shop.open(given.dataset, pairs, budget.held_out, 0)
                model, share = trained(variant, replace(budget, seed=seed, **VARIANTS[variant]), shop)
                found = measure(model, exam, budget, fold)
                run = {"variant": variant, "seed": seed, "fold": fold, "trainable": share, "queries": found}
                done.append({**run, "seconds": time.monotonic() - started})
                with given.out.open("a") as out:
                    out.write(json.dumps(done[-1]) + "\n")
            progress.advance(bar)
    table(done, [query_key(query.text) for query in exam.queries])


def trained(variant: str, config: FinetuneConfig, shop: Shop) -> tuple[Model, float]:
    """The encoder after this variant's training, and the share of its weights that were trained."""
    model = load(default_model())
    if variant == "untrained":
        return model, 0.0
    with tempfile.TemporaryDirectory() as work:

        def run(task: Task, settings: FinetuneConfig | PretrainConfig, name: str) -> None:
            Loop(task, settings, Path(work) / name, Path(work) / "board", lambda *told: None).run()

        if variant == "mlm first":
            gaps = replace(MLM, seed=config.seed, steps=config.steps, evaluate_every=config.steps)
            run(Pretrain(model, shop.texts, gaps), gaps, "gaps")
        task = ToTheEnd(model, [shop], config, {})
        share = task.trainable_share()
        run(task, config, "pairs")
        return task.finished(), share


def measure(model: Model, exam: Exam, config: FinetuneConfig, fold: int | None) -> dict[str, list[float]]:
    """nDCG@10 as zero and condensed, and recall@10, by the key of each query of the fold, or of every query."""
    items = encode(model, exam.texts, config.item_tokens)
    found = exam.measure(encode(model, [query.text for query in exam.queries], config.query_tokens), items)
    rows = np.stack([found.ndcg, found.condensed, found.recall], axis=1).astype(float).tolist()
    asked = [query.text for query in exam.queries]
    return {query_key(text): row for text, row in zip(asked, rows, strict=True) if fold in (None, fold_of(text))}


def table(done: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    """Mean and standard deviation over the seeds, and what was gained over the untrained encoder, as Markdown.

    The interval (95%) and p-value are those of the paired bootstrap over queries, each query's measure being its mean
    over the seeds.
    """
    variants = [(variant, found) for variant in VARIANTS if len(found := _by_seed(done, variant, keys))]
    untrained = _by_seed(done, "untrained", keys)
    print("| variant (seeds) | " + " | ".join(MEASURES) + " | gain as_zero | gain condensed | trainable | s a run |")
    print("| --- " * (2 + len(MEASURES) + 3) + "|")
    for variant, found in variants:
        means = found.mean(axis=1)
        spread = [
            f" ± {value:.4f}" if len(found) > 1 else "" for value in means.std(axis=0, ddof=min(1, len(found) - 1))
        ]
        cells = [f"{mean:.4f}{one}" for mean, one in zip(means.mean(axis=0), spread, strict=True)]
        for column in (0, 1):
            if variant == "untrained" or not len(untrained):
                cells.append("")
                continue
            gain = paired_bootstrap(found.mean(axis=0)[:, column], untrained[0][:, column])
            cells.append(f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), p {gain.p_value:.4f}")
        runs = [one for one in done if one["variant"] == variant]
        seconds = np.mean([one["seconds"] for one in runs])
        print(f"| {variant} ({len(found)}) | {' | '.join(cells)} | {runs[0]['trainable']:.2%} | {seconds:.0f} |")


def _by_seed(
    done: Sequence[dict[str, Any]], variant: str, keys: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Measures (seeds, queries, 3) of the seeds that have measured every query."""
    seeds: dict[int, dict[str, list[float]]] = {}
    for one in done:
        if one["variant"] == variant:
            seeds.setdefault(one["seed"], {}).update(one["queries"])
    return np.array([[found[key] for key in keys] for found in seeds.values() if found.keys() >= set(keys)], np.float64)


def _readable(pairs: Sequence[Pair]) -> list[Pair]:
    return [one for one in pairs if set(scripts_of(one.query)) <= {"latin"}]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
