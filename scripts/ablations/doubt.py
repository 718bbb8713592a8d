"""How right the heads are in how unsure they say they are, on generated shops.

    python scripts/ablations/doubt.py --encoder DIR --work DIR --seeds 41 42 43

Of each seed: a shop with impressions and a Transformer over all but the latest moments; heads learned from two parts of
these, drawn by moment, must differ on a third part by as much as both say. From what was shown, and from what retrieval
would bring. Beside it: the same with one deviation for all candidates.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import open_dataset
from training.data.generate import generate
from training.ranker.answers import read_answers
from training.ranker.config import RankerConfig
from training.ranker.examples import hold_out, session_examples
from training.ranker.heads import OBJECTIVES, Rows, fit, rows_of, rows_of_answers
from training.ranker.log import Bools, Floats, read_log
from training.ranker.pipeline import Shop, make_teller, shopper_vectors
from training.ranker.train import Training

SPLITS = 3
_INSIDE = 1.96


def main() -> None:
    """Prints a table of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--work", type=Path, required=True, help="Directory for shops and content vectors.")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--shoppers", type=int, default=700)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    print(
        f"{'seed, learned from':30} {'objective':10} {'over told':>10} {'least known inside':>19} {'one for all':>12}"
    )
    for seed in given.seeds:
        for source, rows in held_out(given, seed).items():
            for at, (rms, inside, same) in enumerate(judged(rows)):
                print(
                    f"{f'{seed}, {source}':30} {OBJECTIVES[at]:10} {rms:10.2f} {inside:19.3f} {same:12.3f}", flush=True
                )


def held_out(given: argparse.Namespace, seed: int) -> dict[str, Rows]:
    """The rows that heads learn from, by where they come from."""
    path = given.work / f"shop-{seed}"
    if not path.exists():
        generate(path, given.items, given.shoppers, seed, impressions=True)
    config = RankerConfig(epochs=given.epochs, minutes=60)
    dataset = open_dataset(path)
    log = read_log(dataset, dataset.events(), config.seed)
    answers = read_answers(dataset, log)
    encoder = Encoder.open(given.encoder)
    shop = Shop.of(log, list(read_items(path)), encoder, given.work / "content", lambda n, of: None, answers=answers)
    examples = session_examples(log, config.seed)
    learn, late = hold_out(log, examples, config.held_out)
    until = float(examples.now[late].min())
    checkpoint = given.work / f"transformer-{seed}.pt"
    end = time.monotonic() + 60 * config.minutes
    trained = Training(log, examples, learn, late, shop.content, config, end, checkpoint, lambda epoch: None).run()
    teller = make_teller(shop, trained, until, log.time < until)
    vectors = shopper_vectors(trained, teller.table, log, examples, late)
    return {
        "what was shown": rows_of_answers(teller, answers, np.flatnonzero(answers.time >= until), math.inf),
        "what retrieval would bring": rows_of(teller, examples.take(late), vectors, math.inf),
    }


def judged(rows: Rows) -> list[tuple[float, float, float]]:
    """Of each objective: what two heads differ by over what both tell, root mean square; and of the third of the
    candidates that are least known the share whose 95% interval holds the difference, as told and with one for all."""
    apart, told = (np.concatenate(parts) for parts in zip(*(_split(rows, seed) for seed in range(SPLITS)), strict=True))
    found = []
    for at in range(len(OBJECTIVES)):
        error, deviation = np.abs(apart[:, at]), told[:, at]
        same = float(np.sqrt((error**2).mean()))
        least_known = np.argsort(deviation)[-len(error) // 3 :]
        rms = float(np.sqrt(((error / deviation) ** 2).mean()))
        inside, with_one = (
            float((error < _INSIDE * one)[least_known].mean()) for one in (deviation, np.full_like(deviation, same))
        )
        found.append((rms, inside, with_one))
    return found


def _split(rows: Rows, seed: int) -> tuple[Floats, Floats]:
    """How far the log-odds of two heads are apart on what neither has seen, and what they tell of it: (n, 3) each."""
    part = np.random.default_rng(seed).integers(0, 3, int(rows.moment.max()) + 1)[rows.moment]
    one, two = (fit(_taken(rows, part == number)) for number in (0, 1))
    unseen = rows.features[part == 2]
    apart = (unseen @ one.weights + one.bias) - (unseen @ two.weights + two.bias)
    told = np.sqrt(one.deviation(unseen) ** 2 + two.deviation(unseen) ** 2)
    return apart.astype(np.float64), told.astype(np.float64)


def _taken(rows: Rows, chosen: Bools) -> Rows:
    return Rows(rows.features[chosen], rows.labels[chosen], rows.moment[chosen], rows.looked_at[chosen])


if __name__ == "__main__":
    main()
