"""What each signal beside the network of `train ranker --sequences` brings: fitted without it, on shoppers it was not
fitted to.

    python scripts/ablations/signals.py --sequences FILE --ranker DIR --seed 1

`--ranker` and `--seed` are those of a finished training. Weights are fitted to the validation of the 4,096 shoppers
that the training chose by and measured on that of as many others; the test has no part in it. HR and NDCG are by the
place among the candidates of the fit (300 at most), whose tenth is that of all items but for candidates that only a
signal of small weight would bring. Standard errors are of the paired difference to all signals.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.ranker.sequences.blend import Moments, fit_weights
from training.ranker.sequences.export import Served
from training.ranker.sequences.files import read_sequences
from training.ranker.sequences.signals import NETWORK

_SHOPPERS = 4096


def main() -> None:
    """Prints a row for all signals, one without each group, one for each group beside the network alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--ranker", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    sequences = read_sequences(given.sequences, given.seed)
    served = Served.open(given.ranker)
    if served.item_ids != sequences.item_ids:
        raise SystemExit(f"{given.ranker}: was not trained on {given.sequences} with seed {given.seed}")
    masked = not sequences.repeats()
    others = np.arange(_SHOPPERS, min(2 * _SHOPPERS, sequences.shoppers))
    fitting, judging = (
        Moments.of(sequences, some, served.products, served.signals, masked)
        for some in (np.arange(min(_SHOPPERS, sequences.shoppers)), others)
    )
    names = [name for name in fitting.names if name != NETWORK]
    groups = {name: [name] for name in names}
    for space in ("graph", "content"):
        if all_of := [name for name in names if name.startswith(f"{space}_")]:
            groups[f"all of {space}"] = all_of
    whole = gains(fitting, judging, len(others))
    show("all signals", whole, whole)
    show("the network alone", gains(fitting.without(names), judging.without(names), len(others)), whole)
    for title, group in groups.items():
        show(f"without {title}", gains(fitting.without(group), judging.without(group), len(others)), whole)
    for title, group in groups.items():
        rest = [name for name in names if name not in group]
        show(f"network and {title}", gains(fitting.without(rest), judging.without(rest), len(others)), whole)


def gains(fitting: Moments, judging: Moments, shoppers: int) -> NDArray[np.float64]:
    """The gain of NDCG@10 of each shopper, 0 for those whose item is no candidate or stands lower."""
    weights, _ = fit_weights(fitting)
    by = np.array([weights[name] for name in judging.names])
    found = np.zeros(shoppers)
    for number, (values, place) in enumerate(zip(judging.values, judging.places, strict=True)):
        scores = values.astype(np.float64) @ by
        rank = (scores > scores[place]).sum() + ((scores == scores[place]).sum() - 1) / 2
        found[number] = 1 / np.log2(rank + 2) if rank < 10 else 0.0
    return found


def show(title: str, found: NDArray[np.float64], whole: NDArray[np.float64]) -> None:
    """A row."""
    change = found - whole
    error = change.std() / np.sqrt(len(change))
    told = f"HR@10 {(found > 0).mean():.4f}  NDCG@10 {found.mean():.4f}"
    print(f"{title:28} {told}  {change.mean():+.4f} ± {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
