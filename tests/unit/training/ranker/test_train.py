"""Training learns tastes and order, goes on after a kill, keeps to its time, and meets unknown items by content."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.training.ranker.logs import tastes
from training.ranker.config import RankerConfig
from training.ranker.examples import Batch, collate, hold_out, session_examples
from training.ranker.measures import measure
from training.ranker.model import Shopper
from training.ranker.train import Epoch, Trained, Training

CONFIG = RankerConfig(
    dim=16, max_history=8, batch=64, epochs=15, patience=15, learning_rate=0.01, dropout=0.0, id_dropout=0.2
)


class Killed(Exception):
    """Stands for the end of a process."""


def training(path: Path, config: RankerConfig = CONFIG, seconds: float = 60.0, kill_after: int = 0) -> Training:
    torch.set_num_threads(1)
    log, content = tastes()
    examples = session_examples(log, 0)
    learn, late = hold_out(log, examples, 0.1)

    def told(epoch: Epoch) -> None:
        if epoch.number == kill_after:
            raise Killed

    return Training(log, examples, learn, late, content, config, time.monotonic() + seconds, path, told)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return training(tmp_path_factory.mktemp("whole") / "checkpoint.pt").run()


def test_it_learns(trained: Trained) -> None:
    # Ten items of the own group by chance alone: their mean NDCG@10 with one wanted is .45.
    assert trained.ndcg > 0.6


def test_killed_and_made_again_it_goes_on_to_the_same_end(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(Killed):
        training(tmp_path / "checkpoint.pt", kill_after=3).run()
    again = training(tmp_path / "checkpoint.pt")
    assert again._epoch == 3
    ended = again.run()
    assert ended.epochs == trained.epochs
    assert ended.ndcg == pytest.approx(trained.ndcg, abs=0.05)


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        training(tmp_path / "checkpoint.pt", kill_after=1).run()
    assert training(tmp_path / "checkpoint.pt", replace(CONFIG, dropout=0.5))._epoch == 0


def test_time_that_is_over_ends_it_after_one_epoch(tmp_path: Path) -> None:
    ended = training(tmp_path / "checkpoint.pt", replace(CONFIG, epochs=1000), seconds=0.0).run()
    assert ended.epochs == 1


def test_an_item_unknown_to_the_training_is_near_its_like(trained: Trained) -> None:
    _, content = tastes()
    known = Trained(trained.model, trained.known, 0, 0).table(content)
    # The same items once more, as if they were new: their vectors are guessed from content alone.
    doubled = Trained(trained.model, trained.known, 0, 0).table(np.concatenate([content, content]))[len(content) :]
    own = (known * doubled).sum(axis=1)
    group = np.arange(len(content)) // 10
    others = known @ doubled.T
    across = others[group[:, None] != group[None, :]].mean()
    assert own.mean() > across + 0.3
    unreadable = np.concatenate([content, np.zeros((1, content.shape[1]), np.float32)])
    assert np.isnan(trained.table(unreadable)[-1]).all()


def test_a_shopper_alone_is_the_shopper_in_a_batch(trained: Trained) -> None:
    log, content = tastes()
    examples = session_examples(log, 0)
    table = trained.table(content)
    some = np.array([0, 5, 9, 20])
    together = trained.shoppers(table, collate(log, examples, some, 8))
    for row, example in enumerate(some):
        alone = trained.shoppers(table, collate(log, examples, np.array([example]), 8))
        assert alone[0] == pytest.approx(together[row], abs=1e-5)


def test_no_event_at_all_is_a_vector_too() -> None:
    shopper = Shopper(CONFIG).eval()
    empty = torch.zeros(1, 1, dtype=torch.int64)
    vector = shopper(torch.zeros(1, 1, 16), empty, empty, empty > 0)
    assert torch.linalg.norm(vector).item() == pytest.approx(1, abs=1e-5)


def reached(trained: Trained, change: Callable[[np.random.Generator, Batch], NDArray[np.int64]]) -> float:
    """NDCG@10 on the latest moments with the items of the histories changed."""
    log, content = tastes()
    examples = session_examples(log, 0)
    _, late = hold_out(log, examples, 0.1)
    batch = collate(log, examples, late, CONFIG.max_history)
    table = trained.table(content)
    shoppers = trained.shoppers(table, replace(batch, items=change(np.random.default_rng(0), batch)))
    return float(measure(shoppers @ table.T, batch.rows, batch.columns).ndcg.mean())


def test_a_shuffled_history_ranks_worse(trained: Trained) -> None:
    def shuffled(rng: np.random.Generator, batch: Batch) -> NDArray[np.int64]:
        order = np.argsort(np.where(batch.mask, rng.random(batch.mask.shape), 2), axis=1)
        return np.take_along_axis(batch.items, order, 1)

    assert reached(trained, lambda rng, batch: batch.items) == pytest.approx(trained.ndcg)
    assert reached(trained, shuffled) < trained.ndcg - 0.05


def test_histories_of_other_shoppers_rank_worse(trained: Trained) -> None:
    assert reached(trained, lambda rng, batch: rng.permutation(batch.items)) < trained.ndcg - 0.3


def test_a_sample_stands_for_very_many_items(tmp_path: Path) -> None:
    sampled = training(tmp_path / "sampled.pt", replace(CONFIG, most_items=15, epochs=6)).run()
    assert sampled.ndcg > 0.6


def test_in_the_mean_the_sampled_loss_and_its_gradient_are_those_of_all_items(tmp_path: Path) -> None:
    config = replace(CONFIG, id_dropout=0.0)
    whole, part = (training(tmp_path / f"{most}.pt", replace(config, most_items=most)) for most in (60, 40))
    part._model.load_state_dict(whole._model.state_dict())
    log, _ = tastes()
    examples = session_examples(log, 0)
    batch = collate(log, examples, np.arange(40), config.max_history)
    rng = np.random.default_rng(0)
    expected = whole._loss(batch, rng)
    expected.backward()  # type: ignore[no-untyped-call]
    losses = []
    for _ in range(200):
        loss = part._loss(batch, rng)
        (loss / 200).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
    assert np.std(losses) > 0
    # A logarithm of a mean: a little low.
    assert np.mean(losses) == pytest.approx(expected.item(), abs=0.02)
    for one, other in zip(whole._model.parameters(), part._model.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None
            assert (one.grad - other.grad).norm() < 0.1 * one.grad.norm() + 1e-4


def test_what_is_wanted_counts_in_the_loss_as_much_as_its_worth(tmp_path: Path) -> None:
    config = replace(CONFIG, id_dropout=0.0)
    log, content = tastes()
    examples = session_examples(log, 0)
    chosen = np.arange(len(examples))
    batch = collate(log, examples, chosen[:64], config.max_history)

    def loss(worth: NDArray[np.float64] | None) -> float:
        made = Training(
            log, examples, chosen, chosen[:0], content, config, 0.0, tmp_path / "c.pt", lambda epoch: None, worth=worth
        )
        return made._loss(batch, np.random.default_rng(0)).item()

    some = (np.arange(len(content)) % 3).astype(np.float64)
    assert loss(np.ones(len(content))) == pytest.approx(loss(None), rel=1e-5)
    assert loss(some) + loss(2 - some) == pytest.approx(2 * loss(None), rel=1e-5)
    assert loss(some) != pytest.approx(loss(None), rel=1e-3)
