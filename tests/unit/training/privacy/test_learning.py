"""A shopper is one example whatever they did, is bounded, and is told of by their own rows alone."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.training.privacy.shoppers import CATALOGUE, TOPICS, made_up, shop
from training.cli import app
from training.privacy.head import CLIP, Pace, learn, noise_for, spent, untrained
from training.privacy.interests import ATTRIBUTES, MOMENTS, Interests, read_interests, split
from training.privacy.learning import cost


def test_moments_say_what_was_met_before_and_wanted_next(tmp_path: Path) -> None:
    found = read_interests(shop(tmp_path / "shop", {"anna": "AAB", "bert": "C"}), CATALOGUE)
    assert found.shoppers == ("anna",)
    # The second A was met already, but not in its own session, so it is wanted again.
    assert found.known[0, :2, :3].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert found.wanted[0, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert np.linalg.norm(found.known[0, 0, 3:]) == 1
    with pytest.raises(ValueError, match="nothing to learn from"):
        read_interests(shop(tmp_path / "one", {"bert": "C"}), CATALOGUE)


def test_what_is_said_of_a_shopper_depends_on_nobody_else(tmp_path: Path) -> None:
    alone = read_interests(shop(tmp_path / "alone", {"anna": "ABCAB", "carl": "CAB"}), CATALOGUE)
    beside = read_interests(shop(tmp_path / "beside", {"anna": "ABCAB", "bert": "BBAACC", "carl": "CAB"}), CATALOGUE)
    assert beside.shoppers == ("anna", "bert", "carl")
    assert np.array_equal(alone.known, beside.known[[0, 2]])
    assert np.array_equal(alone.wanted, beside.wanted[[0, 2]])


@pytest.mark.parametrize("moments", [1, MOMENTS])
def test_a_shopper_moves_a_step_by_at_most_the_clip(moments: int) -> None:
    others = made_up(20)
    known, wanted = np.zeros_like(others.known[:1]), np.zeros_like(others.wanted[:1])
    # As hard as can be to foresee, and far longer than any that is read.
    known[0, :moments] = 100
    wanted[0, :moments, 3] = 1
    with_one = Interests(
        (*others.shoppers, "x"), np.concatenate([others.known, known]), np.concatenate([others.wanted, wanted])
    )
    # Rates are by the number of shoppers: these make both sums count alike. All take part.
    moved = learn(with_one, Pace(1, 1.0, 21.0), 0.0, 0)
    without = learn(others, Pace(1, 1.0, 20.0), 0.0, 0)
    change = np.sqrt(((moved.weights - without.weights) ** 2).sum() + ((moved.bias - without.bias) ** 2).sum())
    assert change == pytest.approx(CLIP, rel=1e-3)
    free = learn(with_one, Pace(1, 1.0, 21.0), None, 0)
    assert np.linalg.norm(free.weights - without.weights) > 50 * CLIP


def test_noise_is_what_the_accountant_asks_for() -> None:
    pace = Pace(40, 0.5, 1.0)
    noise = noise_for(3.0, 1e-4, pace)
    assert 2.9 < spent(noise, 1e-4, pace) <= 3.0
    assert spent(noise, 1e-4, Pace(80, 0.5, 1.0)) > 3.0
    # Nothing to learn from but the noise: its size is that of the noise.
    nobody = Interests(
        ("x",), np.zeros((1, MOMENTS, TOPICS + ATTRIBUTES), np.float32), np.zeros((1, MOMENTS, TOPICS), np.float32)
    )
    moved = learn(nobody, Pace(1, 1.0, 1.0), noise, 0).weights - untrained(TOPICS).weights
    assert moved.std() == pytest.approx(noise * CLIP, rel=0.1)


def test_both_twins_learn_what_the_untrained_head_does_not_know() -> None:
    told: list[tuple[int, int]] = []
    found = cost(made_up(700), 8.0, 0, lambda done, total: told.append((done, total)))
    assert found.plain > 0.9 > found.untrained
    assert found.plain >= found.private > found.untrained + 0.1
    assert found.epsilon <= 8.0
    assert found.delta < 1 / found.shoppers
    assert told[-1] == (8, 8)


def test_nobody_is_learned_from_and_measured_on() -> None:
    parts = split(made_up(200), 1)
    people = [set(part.shoppers) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, people)) == len(set.union(*people)) == 200
    with pytest.raises(ValueError, match="too few"):
        split(made_up(2), 1)


def test_an_epsilon_that_promises_nothing_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["privacy", "train", "--data", str(tmp_path), "--epsilon", "0"])
    assert result.exit_code == 2
    assert "epsilon must be above 0" in result.stderr
