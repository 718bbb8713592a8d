"""What it costs to read the best candidates of a search with a cross-encoder, in one process, against the same network
in eager PyTorch in one padded batch (as cross-encoders are usually served), in turns in one run.

    python -m loadtest.reranker_bench --candidates 50 --layers 3

The network is the default encoder's first layers with a head of random weights: what it costs does not depend on what
it learned. Titles are ten words, queries three.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from loadtest.bench_rows import Row, write_rows
from services.domain.reranking import candidate_text
from services.ranker.reranker import Reranker
from souk.types.v1 import types_pb2
from training.encoder.distil import student_of
from training.encoder.export import default_model
from training.encoder.model import load
from training.encoder.reranker.export import export_reranker
from training.encoder.reranker.model import CrossEncoder, Reader

_WORDS = """wireless headphones with noise cancelling black steel water bottle insulated kitchen knife set wooden handle
office chair ergonomic mesh running shoes light breathable desk lamp dimmable laser printer toner cartridge monitor
stand adjustable keyboard mechanical cable charging fast travel adapter mouse gaming tablet case leather lens"""
_TITLE, _QUERY, _MAX_TOKENS = 10, 3, 64
# Relevances of both must be equal to this.
_EQUAL = 1e-4


def run(candidates: int, layers: int, rounds: int, torch_threads: int) -> dict[str, list[float]]:
    """Milliseconds of each round by way of reading; raises RuntimeError where the relevances differ."""
    torch.set_num_threads(torch_threads)
    draw = random.Random(0)
    torch.manual_seed(0)
    begun = load(default_model())
    if layers:
        begun = student_of(begun, layers)
    reader = Reader(CrossEncoder(begun.module.model), begun.tokenizer, _MAX_TOKENS)
    taken: dict[str, list[float]] = {"eager PyTorch": [], "reranker": []}
    with tempfile.TemporaryDirectory() as folder:
        card = export_reranker(reader, 0.5, {}, Path(folder) / "reranker")
        reranker = Reranker(Path(folder), card.manifest, "CPUExecutionProvider")
    for number in range(rounds + 3):
        query, titles = _text(draw, _QUERY), [_text(draw, _TITLE) for _ in range(candidates)]
        columns = types_pb2.CandidateColumns(
            id=[f"i{row:04}" for row in range(candidates)],
            title=titles,
            score=[1.0 - row / candidates for row in range(candidates)],
            brand=[0] * candidates,
            brands=["Acme"],
            category=[0] * candidates,
            categories=["Shop > Shelf"],
        )
        clock = time.perf_counter()
        read = reranker.read(query, columns, candidates, time.monotonic() + 60)
        engine = time.perf_counter() - clock
        clock = time.perf_counter()
        logits = reader.logits([(query, candidate_text(title, "Acme", "Shop > Shelf")) for title in titles])
        eager = time.perf_counter() - clock
        worst = float(np.abs(1 / (1 + np.exp(-logits.astype(np.float64))) - read.relevance).max())
        if not worst <= _EQUAL:
            raise RuntimeError(f"relevances differ by {worst:.1e}, more than {_EQUAL}")
        if number >= 3:
            taken["eager PyTorch"].append(1000 * eager)
            taken["reranker"].append(1000 * engine)
    return taken


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--layers", type=int, default=3, help="0: all.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--torch-threads", type=int, default=2)
    given = parser.parse_args()
    taken = run(given.candidates, given.layers, given.rounds, given.torch_threads)
    print(f"{given.candidates} candidates, {given.layers or 'all'} layers; ms over {given.rounds} rounds, in turns")
    print(f"{'':16} {'p50':>7} {'p99':>7} {'eager / it':>11}")
    eager = np.array(taken["eager PyTorch"])
    rows = []
    for name, each in taken.items():
        ratio = np.median(eager / np.array(each))
        print(f"{name:16} {np.median(each):7.2f} {np.percentile(each, 99):7.2f} {ratio:11.1f}")
        what = f"{name}, {given.candidates} candidates, {given.layers or 'all'} layers"
        rows.append(Row(what, float(np.median(each)), "ms", "eager PyTorch", float(ratio)))
    print(f"next: read {write_rows('reranker', rows)}")


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS.split(), k=words))


if __name__ == "__main__":
    main()
