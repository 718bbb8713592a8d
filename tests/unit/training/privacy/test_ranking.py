"""The ranking heads learn from shoppers as single examples, of a retrieval that others made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from services.domain.features import FEATURES
from souk.dataset import read_items
from tests.unit.training.privacy.shoppers import shop
from training.data.canonical import open_dataset
from training.privacy import ranking
from training.privacy.audit import audit
from training.privacy.datasets import bucket
from training.privacy.head import CLIP, Pace
from training.privacy.ranking import (
    MOMENTS,
    RANKING,
    Candidates,
    Shown,
    cost,
    fitted,
    learn,
    learn_legs,
    losses,
    make_candidates,
    read_candidates,
    untrained,
)
from training.ranker.config import RankerConfig
from training.ranker.heads import Rows
from training.ranker.log import read_log
from training.ranker.pipeline import Shop


def made_up(shoppers: int, moments: int = 2, told_by: str = "in_cart", seed: int = 0) -> Shown:
    """Of ten candidates at each moment the one that a feature tells is clicked."""
    rng = np.random.default_rng(seed)
    count = shoppers * moments * 10
    features = rng.random((count, len(FEATURES)), np.float32) / np.float32(4)
    labels = np.zeros((count, 3), np.float32)
    labels[np.arange(shoppers * moments) * 10 + rng.integers(10, size=shoppers * moments)] = 1
    features[:, FEATURES.index(told_by)] = labels[:, 0]
    rows = Rows(features, labels, np.repeat(np.arange(shoppers * moments), 10), np.ones(count, np.float32))
    return Shown(rows, np.repeat(np.arange(shoppers), moments * 10))


def joined(one: Shown, two: Shown) -> Shown:
    """Both, as different shoppers."""
    rows = Rows(
        np.concatenate([one.rows.features, two.rows.features]),
        np.concatenate([one.rows.labels, two.rows.labels]),
        np.concatenate([one.rows.moment, two.rows.moment + one.rows.moment[-1] + 1]),
        np.concatenate([one.rows.looked_at, two.rows.looked_at]),
    )
    return Shown(rows, np.concatenate([one.shopper, two.shopper + len(one)]))


@pytest.mark.parametrize("moments", [1, MOMENTS])
def test_a_shopper_moves_a_step_by_at_most_the_clip(moments: int) -> None:
    others, loud = made_up(20), made_up(1, moments)
    loud.rows.features[:] *= 100
    # Rates are by the number of shoppers: these make both sums count alike. All take part.
    both = joined(others, loud)
    moved, without = learn(both, Pace(1, 1.0, 21.0), 0.0, 0), learn(others, Pace(1, 1.0, 20.0), 0.0, 0)
    change = np.sqrt(((moved.weights - without.weights) ** 2).sum() + ((moved.bias - without.bias) ** 2).sum())
    assert change == pytest.approx(CLIP, rel=1e-3)
    free = learn(both, Pace(1, 1.0, 21.0), None, 0)
    assert np.linalg.norm(free.weights - without.weights) > 5 * CLIP


def test_moments_of_a_shopper_count_together_as_one() -> None:
    found = made_up(2, 3)
    features, labels, counts = found.tensors()
    assert features.shape == (2, 30, len(FEATURES))
    assert labels.shape == (2, 30, 3)
    # Ten candidates at each of three moments.
    assert counts.sum(dim=1).tolist() == pytest.approx([10, 10])
    assert len(joined(found, made_up(1, 1)).tensors()[2][2].nonzero()) == 10


def test_shoppers_are_taken_with_all_that_is_theirs() -> None:
    data = made_up(6, 2)
    head = fitted(made_up(30, 2, seed=1))
    some = data.take(np.array([4, 1]))
    assert len(some) == 2
    assert some.rows.moment.tolist() == np.repeat(np.arange(4), 10).tolist()
    assert losses(head, some) == pytest.approx(losses(head, data)[[4, 1]], rel=1e-5)


def test_an_attack_finds_who_taught_heads_that_are_not_private() -> None:
    # One moment a shopper, clicked by chance: fewer of them than the heads have weights.
    data = made_up(60, 1)
    data.rows.features[:] = np.random.default_rng(3).random(data.rows.features.shape, np.float32)
    found = audit(RANKING, data, 0.3, 40, 6, 0, lambda done, total: None)
    assert found.plain.strongest > 0.7
    assert found.private.strongest < found.plain.strongest - 0.1


def test_both_learn_what_the_untrained_heads_do_not_know() -> None:
    told: list[tuple[int, int]] = []
    data = Candidates(made_up(250), made_up(40, seed=1), made_up(60, seed=2))
    found = cost(data, 8.0, 0, lambda done, total: told.append((done, total)))
    assert found.plain == pytest.approx(1.0)
    assert found.plain >= found.private > found.untrained + 0.3
    assert found.epsilon <= 8.0
    assert found.delta < 1 / found.shoppers
    assert told[-1] == (4, 4)
    assert untrained().weights[:, FEATURES.index("affinity")].tolist() == [1, 1, 1]


def opened(data: Path) -> Shop:
    """With vectors for texts that no encoder made."""
    dataset = open_dataset(data)
    log = read_log(dataset, dataset.events(), 0)
    by_id = {item.id: item for item in read_items(data)}
    items = [by_id[item] for item in log.item_ids]
    content = np.eye(3, dtype=np.float32)[["ABC".index(item) for item in log.item_ids]]
    return Shop(log, items, content, {})


def read(data: Path) -> Candidates:
    return read_candidates(opened(data), 0, lambda done, total: None)


# Of these 40 the hash of seed 0 lets s3 teach.
OF = {f"s{number}": ("ABCABC" * 3)[number % 3 :] for number in range(40)}


def test_what_a_shopper_did_who_teaches_the_heads_is_not_in_the_features_of_others(tmp_path: Path) -> None:
    whole = read(shop(tmp_path / "whole", OF))
    other = read(shop(tmp_path / "other", OF | {"s3": "CCCCCC"}))
    assert not np.array_equal(whole.train.rows.features, other.train.rows.features)
    for one, two in ((whole.validation, other.validation), (whole.test, other.test)):
        # But for rounding: products of several shoppers at once.
        assert np.allclose(one.rows.features, two.rows.features, atol=1e-5)
    with pytest.raises(ValueError, match="give more shoppers"):
        read(shop(tmp_path / "few", {"s0": "AB", "s1": "BC"}))


@pytest.mark.parametrize("instead", ["ABCABCABCABCABCABC", "A", None])
def test_the_transformer_is_the_same_whoever_teaches_the_heads(tmp_path: Path, instead: str | None) -> None:
    # Several views a session: a moment inside each is drawn by lot, and the teacher must not draw along.
    of = {name: did for name, did in OF.items() if name != "s3"} | ({"s3": instead} if instead else {})
    learned = []
    for name, dataset in (("whole", OF), ("other", of)):
        made = opened(shop(tmp_path / name, dataset, a_day=3))
        config = RankerConfig(dim=16, seed=0, epochs=2)
        (tmp_path / f"{name}.checkpoints").mkdir()
        learned.append(learn_legs(made, config, tmp_path / f"{name}.checkpoints", lambda epoch: None))
    one, two = (trained.model.state_dict() for trained in learned)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_of_too_many_shoppers_those_are_read_whose_id_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(shop(tmp_path / "shop", OF))
    config = RankerConfig(dim=16, seed=0, epochs=1)
    trained = learn_legs(made, config, tmp_path, lambda epoch: None)
    whole = make_candidates(made, trained, 0, lambda parts: None)
    monkeypatch.setattr(ranking, "_MOST_SHOPPERS", 5)
    some = make_candidates(made, trained, 0, lambda parts: None)
    assert 0 < len(some.train) < len(whole.train)
    # Of the first five, each who leaves would let another in.
    teachers = [f"s{number}" for number in range(40) if bucket(f"0:s{number}", 100) >= 70]
    left = []
    for name in teachers:
        without = opened(shop(tmp_path / name, OF | {name: "A"}))
        left.append(len(make_candidates(without, trained, 0, lambda parts: None).train))
    assert left.count(len(some.train) - 1) == len(some.train)
    assert left.count(len(some.train)) == len(teachers) - len(some.train)
