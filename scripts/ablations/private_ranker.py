"""What it costs in places to serve a ranker with private heads (`train ranker --epsilon`), on held-out time.

    python scripts/ablations/private_ranker.py --data DIR --encoder DIR --work DIR --seeds 0 1 2

Each learns from what lies before the test, and ranks all items for the next session of each shopper (at most 2,000), as
`evaluate ranker` has it: `train ranker` as it is; the Transformer of 40 of 100 shoppers with the heads that `train
ranker` fits to the 30 who teach; and with private heads.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import open_dataset
from training.evaluate.ranker import split
from training.evaluate.ranking import Moment, judge, ranker_scores, rows_before
from training.privacy.head import Head
from training.privacy.ranking import fitted, learn_legs, learn_private, make_candidates
from training.ranker.config import RankerConfig
from training.ranker.heads import Heads
from training.ranker.log import read_log
from training.ranker.pipeline import Fitted, Shop, fit_ranker
from training.ranker.train import Trained

_SHOPPERS = 2000


def main() -> None:
    """Prints a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--work", type=Path, required=True, help="Where content vectors are kept.")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=8.0, help="Of `train ranker` as it is.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "seed, asked | NDCG@10 of train ranker | of 40 in 100, plain heads | private heads | epsilon, noise, taught by"
    )
    for seed in given.seeds:
        print(compared(given, seed), flush=True)


def compared(given: argparse.Namespace, seed: int) -> str:
    """The line of a seed."""
    dataset = open_dataset(given.data)
    log = read_log(dataset, dataset.events(), seed)
    _, at = split(dataset, log, "time", seed, _SHOPPERS)
    whole = Shop.of(log, list(read_items(given.data)), Encoder.open(given.encoder), given.work, lambda done, of: None)
    part = Shop(rows_before(log, at.seen), whole.items, whole.content, whole.queries)
    found = [ndcg(whole, at, as_it_is(part, RankerConfig(seed=seed, minutes=given.minutes)))]
    with tempfile.TemporaryDirectory() as checkpoints:
        trained = learn_legs(part, RankerConfig(seed=seed), Path(checkpoints), lambda epoch: None)
    data = make_candidates(part, trained, seed, lambda made: None)
    private = learn_private(data, given.epsilon, seed, lambda done, of: None)
    found += [ndcg(whole, at, with_heads(trained, head)) for head in (fitted(data.train), private.head)]
    told = f"{private.epsilon:.2f}, {private.noise:.2f}, {len(data.train)}"
    return f"{seed}, {len(at.examples)} | {' | '.join(f'{one:.4f}' for one in found)} | {told}"


def as_it_is(part: Shop, config: RankerConfig) -> Fitted:
    """`train ranker` without --epsilon."""
    with tempfile.TemporaryDirectory() as checkpoints:
        return fit_ranker(part, config, time.monotonic(), Path(checkpoints), lambda what: None, lambda epoch: None)


def with_heads(trained: Trained, head: Head) -> Fitted:
    """A ranker of these."""
    return Fitted(trained, Heads(head.weights.T.copy(), head.bias), {})


def ndcg(whole: Shop, at: Moment, made: Fitted) -> float:
    """NDCG@10 over all items."""
    return float(judge(at, whole.log, ranker_scores(whole, at, made)).ndcg.mean())


if __name__ == "__main__":
    main()
