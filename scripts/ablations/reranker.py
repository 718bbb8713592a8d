"""What a reranker brings to judged queries: learned from synthetic queries, from labels of other queries, from both.

    python scripts/ablations/reranker.py --dataset CHORUS --bundle BUNDLE --pairs PAIRS --out results

Retrieval is the real one (the processes of `evaluate search`), once; the reranker reads its first 50. Labels and the
reranker's weight are always those of the other folds (training/tune/folds.py): no query has a part in what it is
measured with. What a run has finished is kept in --out and not done again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from services.domain.reranking import fused
from souk.types.v1 import types_pb2
from training.encoder.distil import student_of
from training.encoder.export import default_model
from training.encoder.loop import Loop
from training.encoder.model import load
from training.encoder.pairs import Pair, judged_pairs, read_pairs
from training.encoder.reranker.groups import Groups
from training.encoder.reranker.model import CrossEncoder, Reader
from training.encoder.reranker.train import LearnToRead, RerankerConfig
from training.evaluate.bootstrap import paired_bootstrap
from training.evaluate.judged import read_dataset
from training.evaluate.metrics import condensed_ndcg, ndcg
from training.evaluate.stack import Stack
from training.tune.folds import FOLDS, fold_of

READ = 50
DEPTH = 100
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
SYNTHETIC = RerankerConfig(layers=3, steps=300, held_out_queries=60, evaluate_every=100, patience=0, max_tokens=64)
LABELS = replace(SYNTHETIC, steps=80, evaluate_every=80, learning_rate=3e-5, held_out_queries=5)

Retrieved = dict[str, tuple[list[str], list[float]]]
Relevance = dict[str, list[float]]


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="Canonical dataset with judgements.")
    parser.add_argument("--bundle", type=Path, required=True, help="What retrieves.")
    parser.add_argument("--pairs", type=Path, required=True, help="What `encoder queries` wrote.")
    parser.add_argument("--out", type=Path, required=True, help="Directory of what is finished.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = read_dataset(given.dataset)
    items, grades = data.items, data.grades
    found = retrieved(items, given.bundle, list(grades), given.out / "retrieved.json")
    judged = [pair for pair in judged_pairs(given.dataset) if pair.query in grades]
    synthetic = read_pairs(given.pairs)
    weights = given.out / f"synthetic-{given.seed}.pt"
    read: dict[str, Relevance] = {}
    for variant in ("synthetic", "labels", "both"):
        kept = given.out / f"{variant}-{given.seed}.json"
        if not kept.is_file():
            began = time.monotonic()
            relevance = learned(variant, items, synthetic, judged, found, weights, given.seed)
            kept.write_text(json.dumps({"relevance": relevance, "seconds": time.monotonic() - began}))
        read[variant] = json.loads(kept.read_text())["relevance"]
    table(found, grades, read)


def retrieved(items: list[types_pb2.Item], bundle: Path, queries: Sequence[str], kept: Path) -> Retrieved:
    """The first of what is served for each query, with its scores."""
    if not kept.is_file():
        with Stack(items, bundle) as stack:
            with Progress() as progress:
                stack.fill(progress)
            hits = {query: stack.client.search(query, page_size=DEPTH, timeout=30).hits for query in queries}
            found = {query: ([hit.item_id for hit in one], [hit.score for hit in one]) for query, one in hits.items()}
        kept.write_text(json.dumps(found))
    told: Retrieved = json.loads(kept.read_text())
    return told


def learned(
    variant: str, items: list[types_pb2.Item], synthetic: list[Pair], judged: list[Pair], found: Retrieved,
    weights: Path, seed: int,
) -> Relevance:  # fmt: skip
    """The relevance of the first READ of each query, by a reranker that learned from no label of it."""
    if variant == "synthetic":
        reader, groups = fitted(items, synthetic, replace(SYNTHETIC, seed=seed), None)
        torch.save(reader.module.state_dict(), weights)
        return read_by(reader, groups, items, found, list(found))
    begun = weights if variant == "both" else None
    out: Relevance = {}
    for fold in range(FOLDS):
        others = [pair for pair in judged if fold_of(pair.query) != fold]
        reader, groups = fitted(items, others, replace(LABELS, seed=seed), begun)
        out |= read_by(reader, groups, items, found, [query for query in found if fold_of(query) == fold])
    return out


def fitted(
    items: list[types_pb2.Item], pairs: list[Pair], config: RerankerConfig, begun: Path | None
) -> tuple[Reader, Groups]:
    """A reranker trained on the pairs, from the encoder's layers or from weights kept before."""
    groups = Groups(items, pairs, config.held_out, config.seed, config.held_out_queries)
    encoder = student_of(load(default_model()), config.layers)
    torch.manual_seed(config.seed)
    module = CrossEncoder(encoder.module.model)
    if begun is not None:
        module.load_state_dict(torch.load(begun))
    reader = Reader(module, encoder.tokenizer, config.max_tokens)
    with tempfile.TemporaryDirectory() as work:
        task = LearnToRead(reader, groups, config)
        ended = Loop(task, config, Path(work) / "fit", Path(work) / "board", lambda *told: None).run()
    print(f"{len(groups.learn)} queries: held out {ended.before} -> {ended.best.metrics}", flush=True)
    return reader, groups


def read_by(
    reader: Reader, groups: Groups, items: list[types_pb2.Item], found: Retrieved, queries: Sequence[str]
) -> Relevance:
    """The relevance, 0 to 1, of each query's first READ."""
    row = {item.id: number for number, item in enumerate(items)}
    pairs = [(query, groups.texts[row[one]]) for query in queries for one in found[query][0][:READ]]
    relevance = iter((1 / (1 + np.exp(-reader.logits(pairs).astype(np.float64)))).tolist())
    return {query: [next(relevance) for _ in found[query][0][:READ]] for query in queries}


def reached(
    found: Retrieved, grades: Mapping[str, Mapping[str, int]], relevance: Relevance, weight: float
) -> NDArray[np.float64]:
    """nDCG@10 as zero and condensed: float64 (queries, 2), in the order served with that weight of the relevance."""
    out = []
    for query, own in grades.items():
        ids, scores = found[query]
        read = np.full(len(ids), np.nan)
        read[: len(relevance[query])] = relevance[query]
        order = np.argsort(-fused(np.array(scores), read, weight), kind="stable")
        ranked = [ids[place] for place in order.tolist()]
        out.append((ndcg(ranked, own), condensed_ndcg(ranked, own)))
    return np.array(out)


def table(found: Retrieved, grades: Mapping[str, Mapping[str, int]], read: Mapping[str, Relevance]) -> None:
    """Markdown: each variant with its weight by the other folds, against no reranker."""
    folds = np.array([fold_of(query) for query in grades])
    print("| reranker | weights chosen | as-zero | condensed | p as-zero | p condensed |\n" + "| --- " * 6 + "|")
    nothing = reached(found, grades, {query: [] for query in grades}, 0.0)
    print(f"| none | | {nothing[:, 0].mean():.4f} | {nothing[:, 1].mean():.4f} | | |")
    for variant, relevance in read.items():
        tried = np.stack([reached(found, grades, relevance, weight) for weight in WEIGHTS])
        held = np.empty_like(nothing)
        chosen = []
        for fold in range(FOLDS):
            best = int(tried[:, folds != fold].mean(axis=(1, 2)).argmax())
            chosen.append(WEIGHTS[best])
            held[folds == fold] = tried[best, folds == fold]
        ps = [paired_bootstrap(held[:, rule], nothing[:, rule]).p_value for rule in (0, 1)]
        print(
            f"| {variant} | {', '.join(map(str, chosen))} | {held[:, 0].mean():.4f} | {held[:, 1].mean():.4f} | "
            f"{ps[0]:.3f} | {ps[1]:.3f} |"
        )
        fixed = ", ".join(
            f"{weight}: {one[:, 0].mean():.3f}/{one[:, 1].mean():.3f}"
            for weight, one in zip(WEIGHTS, tried, strict=True)
        )
        print(f"<!-- {variant} by fixed weight: {fixed} -->")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
