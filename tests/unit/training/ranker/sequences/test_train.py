"""Training learns a walk that popularity cannot tell, ends alike after a kill, and reads nothing from ids."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.ranker.sequences.walks import write_walks
from training.ranker.sequences.config import SequencesConfig, fitted
from training.ranker.sequences.files import Sequences, read_sequences
from training.ranker.sequences.model import Facts
from training.ranker.sequences.train import Epoch, Training

CONFIG = SequencesConfig(
    dim=16, dropout=0.1, max_history=6, places=64, most_items=16, learning_rate=0.01, average=0.9, epochs=8, patience=8
)


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def training(directory: Path, names: str = "i", kill_after: int = 0) -> Training:
    sequences = read_sequences(write_walks(directory / "walks.txt", names=names), seed=1)
    # No graph: what is learned here comes from the histories.
    facts = Facts(torch.zeros(len(sequences.item_ids), 1))

    def told(epoch: Epoch) -> None:
        if epoch.number == kill_after:
            raise Killed

    return Training(sequences, facts, CONFIG, directory / "checkpoint.pt", told)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, dict[str, torch.Tensor]]:
    made = training(tmp_path_factory.mktemp("whole"))
    return made, made.run().state_dict()


def test_it_learns_what_popularity_cannot(whole: tuple[Training, dict[str, torch.Tensor]]) -> None:
    # All items are met as often: by chance alone NDCG@10 is 10 / 30 of the mean gain, .15.
    assert whole[0].ndcg > 0.6


def test_killed_and_made_again_it_ends_alike(tmp_path: Path, whole: tuple[Training, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(Killed):
        training(tmp_path, kill_after=3).run()
    again = training(tmp_path)
    assert again.epochs == 3
    for name, value in again.run().state_dict().items():
        torch.testing.assert_close(value, whole[1][name], rtol=1e-4, atol=1e-5)


def test_other_ids_in_another_order_rank_as_well(
    tmp_path: Path, whole: tuple[Training, dict[str, torch.Tensor]]
) -> None:
    renamed = training(tmp_path, names="turned")
    renamed.run()
    assert renamed.ndcg == pytest.approx(whole[0].ndcg, abs=0.08)


def test_settings_follow_the_data() -> None:
    def made(shoppers: int, events: int, items: int) -> SequencesConfig:
        item = np.arange(shoppers * events) % items
        starts = np.arange(shoppers + 1) * events
        return fitted(Sequences([str(one) for one in range(items)], item, starts), seed=3)

    small, large = made(50, 5, 40), made(1000, 300, 1000)
    assert (small.max_history, large.max_history) == (10, 200)
    assert small.dropout > large.dropout
    assert small.places < large.places
    assert small.seed == 3
