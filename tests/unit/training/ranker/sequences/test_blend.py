"""The weights find the signal that tells what comes next, and stay with the network where few shoppers speak."""

from pathlib import Path

import numpy as np

from services.domain.signals import Signals
from souk.vectors import Float32
from training.ranker.log import Ints
from training.ranker.sequences.blend import Moments, fit_weights
from training.ranker.sequences.files import Sequences, read_sequences
from training.ranker.sequences.follows import find_follows
from training.ranker.sequences.judging import Scores, measures, ranks_of
from training.ranker.sequences.signals import NETWORK, make_signals, unit_rows

ITEMS = 60


def walks(path: Path, shoppers: int) -> Sequences:
    """Every shopper goes from an item to one of the three next to it in a circle, which is what content tells."""
    rng = np.random.default_rng(3)
    steps = rng.integers(1, 4, (shoppers, 7)).cumsum(axis=1) + rng.integers(0, ITEMS, (shoppers, 1))
    lines = [f"s{row} " + " ".join(f"{item % ITEMS:02d}" for item in items) for row, items in enumerate(steps.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return read_sequences(path, seed=1)


def signals(sequences: Sequences) -> Signals:
    """Follows of what may be learned; content is the place on the circle."""
    learned, n = sequences.before(2), len(sequences.item_ids)
    angle = np.array([int(item) for item in sequences.item_ids]) * 2 * np.pi / ITEMS
    circle = unit_rows(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32))
    follows = find_follows(sequences.owner[learned], sequences.item[learned], n)
    counts = np.bincount(sequences.item[learned], minlength=n)
    return make_signals(follows, counts, {"content": circle}, (20, 0.7), repeats=False)


def noise(n: int) -> Scores:
    """A network that has learned nothing."""
    table = np.random.default_rng(5).standard_normal((n, n)).astype(np.float32)

    def products(histories: list[Ints]) -> Float32:
        return table[[history[-1] for history in histories]]

    return products


def ndcg(sequences: Sequences, scores: Scores) -> float:
    """On the test, which nothing was fitted to."""
    return measures(ranks_of(sequences, 1, np.arange(sequences.shoppers), scores, masked=True))["ndcg@10"]


def test_what_tells_is_found(tmp_path: Path) -> None:
    sequences = walks(tmp_path / "walks.txt", 150)
    said, products = signals(sequences), noise(len(sequences.item_ids))
    known = Moments.of(sequences, np.arange(sequences.shoppers), products, said, masked=True)
    weights, bias = fit_weights(known)
    assert bias < 0

    def blended(histories: list[Ints]) -> Float32:
        found = weights[NETWORK] * products(histories)
        for name, values in said.named(histories).items():
            found = found + weights[name] * values
        return found

    assert abs(weights[NETWORK]) < 0.5
    assert weights["content_newest"] > 0
    rest, _ = fit_weights(known.without({"content_newest"}))
    assert set(weights) - set(rest) == {"content_newest"}
    assert ndcg(sequences, blended) > ndcg(sequences, products) + 0.3


def test_few_shoppers_move_little(tmp_path: Path) -> None:
    sequences = walks(tmp_path / "walks.txt", 150)
    said, products = signals(sequences), noise(len(sequences.item_ids))
    few, many = (
        fit_weights(Moments.of(sequences, np.arange(k), products, said, masked=True))[0][NETWORK] for k in (2, 150)
    )
    assert abs(few - 1) < abs(many - 1) / 2
