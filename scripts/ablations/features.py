"""What each feature of the ranker's heads brings: heads learned without it, on moments that they were not learned from.

    python scripts/ablations/features.py --data DIR [--data DIR ...] --encoder DIR --work DIR

Of each dataset: a Transformer over all but the latest moments; of these, in three splits drawn by moment, two thirds to
learn heads from and one to judge them by. NDCG@10 of the chance of a click among the candidates of a moment, and what
it loses without the feature, with the standard error of the paired difference over the moments of all splits. Learned
from what retrieval would bring, and from what was shown where the dataset has impressions.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.domain.features import FEATURES
from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import open_dataset
from training.ranker.answers import read_answers
from training.ranker.config import RankerConfig
from training.ranker.examples import hold_out, session_examples
from training.ranker.heads import Rows, fit, rows_of, rows_of_answers
from training.ranker.log import Bools, read_log
from training.ranker.pipeline import Shop, make_teller, shopper_vectors
from training.ranker.train import Training

_SPLITS = 3
_TOP = 10


def main() -> None:
    """Prints a table of each dataset and source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, action="append", help="A canonical dataset.")
    parser.add_argument("--encoder", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--work", type=Path, required=True, help="Directory for checkpoints and content vectors.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--moments", type=int, default=2_000, help="At most so many of each source.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    for path in given.data:
        for source, rows in held_out(given, path).items():
            moments = len(np.unique(rows.moment))
            print(f"\n{path.name}, {source}: {moments} moments, {len(rows.features)} candidates", flush=True)
            whole = judged(rows, ())
            print(f"{'all':20} {whole.mean():7.4f}")
            for name, columns in groups().items():
                if not rows.features[:, list(columns)].std(axis=0).any():
                    print(f"{'without ' + name:20} {'never varies':>7}")
                    continue
                lost = judged(rows, columns) - whole
                error = lost.std() / math.sqrt(len(lost))
                print(
                    f"{'without ' + name:20} {(whole + lost).mean():7.4f} {lost.mean():+8.4f} +- {error:.4f}",
                    flush=True,
                )


def groups() -> dict[str, tuple[int, ...]]:
    """Columns by feature; those of one thing together."""
    found: dict[str, tuple[int, ...]] = {}
    for column, name in enumerate(FEATURES):
        kind = "scene" if name.startswith("scene_") else "affinity" if name.startswith("affinity") else name
        kind = "history" if name in ("in_history", "seen") or name.startswith("history_") else kind
        found[kind] = (*found.get(kind, ()), column)
    return found


def held_out(given: argparse.Namespace, path: Path) -> dict[str, Rows]:
    """The rows that heads learn from, by where they come from."""
    config = RankerConfig(epochs=given.epochs, minutes=60)
    dataset = open_dataset(path)
    log = read_log(dataset, dataset.events(), config.seed)
    answers = read_answers(dataset, log)
    encoder = Encoder.open(given.encoder)
    shop = Shop.of(log, list(read_items(path)), encoder, given.work / "content", lambda n, of: None, answers=answers)
    examples = session_examples(log, config.seed)
    learn, late = hold_out(log, examples, config.held_out)
    until = float(examples.now[late].min())
    checkpoint = given.work / f"transformer-{path.name}.pt"
    end = time.monotonic() + 60 * config.minutes
    trained = Training(log, examples, learn, late, shop.content, config, end, checkpoint, lambda epoch: None).run()
    teller = make_teller(shop, trained, until, log.time < until)
    rng = np.random.default_rng(0)
    late = rng.permutation(late)[: given.moments]
    vectors = shopper_vectors(trained, teller.table, log, examples, late)
    found = {"what retrieval would bring": rows_of(teller, examples.take(late), vectors, math.inf)}
    if len(shown := rng.permutation(np.flatnonzero(answers.time >= until))[: given.moments]):
        found["what was shown"] = rows_of_answers(teller, answers, np.sort(shown), math.inf)
    return found


def judged(rows: Rows, without: tuple[int, ...]) -> NDArray[np.float64]:
    """NDCG@10 of each moment at which something was wanted, of all splits, by heads that do not know some columns."""
    features = rows.features.copy()
    features[:, list(without)] = 0
    found = []
    for split in range(_SPLITS):
        part = np.random.default_rng(split).integers(0, 3, int(rows.moment.max()) + 1)[rows.moment]
        learned: Bools = part != 0
        heads = fit(Rows(features[learned], rows.labels[learned], rows.moment[learned], rows.looked_at[learned]))
        unseen = np.flatnonzero(~learned)
        chance = heads.probability(features[unseen])[:, 0]
        for some in np.split(np.arange(len(unseen)), np.flatnonzero(np.diff(rows.moment[unseen])) + 1):
            wanted = rows.labels[unseen[some], 0]
            if wanted.any():
                gains = 1 / np.log2(np.arange(2, len(some) + 2))
                order = np.argsort(-chance[some], kind="stable")[:_TOP]
                found.append(float(wanted[order] @ gains[: len(order)] / gains[: min(_TOP, int(wanted.sum()))].sum()))
    return np.array(found)


if __name__ == "__main__":
    main()
