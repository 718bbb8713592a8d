"""Private heads that are to be served: what the card promises was paid for, and what has no meaning is refused."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.domain.features import FEATURES
from tests.unit.training.privacy.shoppers import shop
from tests.unit.training.privacy.test_ranking import OF, made_up, opened
from training.cli import app
from training.privacy import ranking
from training.privacy.head import CLIP, Head, Pace, noise_for, spent
from training.privacy.learning import PACES
from training.privacy.ranker import fit_private_ranker
from training.privacy.ranking import PAID, Candidates, Shown, learn_private
from training.ranker.card import Promise
from training.ranker.config import RankerConfig
from training.ranker.pipeline import Fitted


def fitted(data: Path, tmp_path: Path, noise_seed: int | None) -> tuple[Fitted, Promise]:
    config = RankerConfig(dim=16, epochs=1, seed=0)
    checkpoints = tmp_path / f"checkpoints-{len(list(tmp_path.iterdir()))}"
    checkpoints.mkdir()
    return fit_private_ranker(opened(data), config, 3.0, noise_seed, checkpoints, lambda what: None, lambda epoch: None)


def test_the_same_seed_gives_the_same_heads_and_none_gives_others(tmp_path: Path) -> None:
    data = shop(tmp_path / "shop", OF, a_day=3)
    (one, promise), (again, _), (other, unsaid) = (fitted(data, tmp_path, seed) for seed in (5, 5, None))
    assert np.array_equal(one.heads.weights, again.heads.weights)
    assert np.array_equal(one.heads.bias, again.heads.bias)
    assert not np.allclose(one.heads.weights, other.heads.weights)
    assert one.heads.weights.shape == (len(FEATURES), 3)
    # The curvature of the loss counts shoppers without noise.
    assert one.heads.doubt is None
    assert 2.9 < promise.epsilon <= 3.0
    assert promise.noise == pytest.approx(noise_for(3.0, promise.delta, PAID))
    assert (promise.clip, promise.shoppers) == (CLIP, sum(ranking._places(opened(data).log, 0) >= 70))
    assert promise.delta < 1 / promise.shoppers
    assert "seed, which was given, can take the noise away" in promise.leaves_out
    assert "kept nowhere" in unsaid.leaves_out
    assert one.metrics["ranker.epsilon"] == promise.epsilon
    assert {"ranker.click_ece", "ranker.ndcg_at_10_among_candidates"} < set(one.metrics)


def test_epsilon_pays_for_every_rate_that_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[float | None, int]] = []

    def told(data: Shown, pace: Pace, noise: float | None, seed: int) -> Head:
        made.append((noise, seed))
        return learn(data, pace, noise, seed)

    learn = ranking.learn
    monkeypatch.setattr(ranking, "learn", told)
    data = Candidates(made_up(60), made_up(20, seed=1), made_up(20, seed=2))
    found = [learn_private(data, 2.0, seed, lambda done, total: None) for seed in (0, 1)]
    # Each with noise of its own: what two share is paid for once and seen twice.
    assert len({seed for _, seed in made}) == len(made) == 2 * len(PACES)
    assert {noise for noise, _ in made} == {found[0].noise}
    together = Pace(sum(pace.steps for pace in PACES), PACES[0].share, 1.0)
    assert {pace.share for pace in PACES} == {together.share}
    assert spent(found[0].noise, found[0].delta, together) == pytest.approx(found[0].epsilon)
    assert found[0].epsilon <= 2.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--epsilon", "0"], "--epsilon: must be above 0 and at most 100, not 0"),
        (["--epsilon", "nan"], "--epsilon: must be above 0 and at most 100, not nan"),
        (["--epsilon", "3", "--minutes", "2"], "minutes: goes without --epsilon"),
        (["--epsilon", "3", "--config", 'objective = "policy"'], "objective: goes without --epsilon"),
        (["--epsilon", "3", "--config", "held_out = 0.2"], "held_out: goes without --epsilon"),
        (["--epsilon", "3", "--sequences", "walks.txt"], "--epsilon: goes with --dataset"),
    ],
)
def test_what_has_no_meaning_beside_epsilon_is_refused_by_name(tmp_path: Path, given: list[str], told: str) -> None:
    if "--config" in given:
        at = given.index("--config") + 1
        (tmp_path / "config.toml").write_text(given[at])
        given = [*given[:at], str(tmp_path / "config.toml"), *given[at + 1 :]]
    where = [] if "--sequences" in given else ["--dataset", str(tmp_path), "--bundle", str(tmp_path)]
    said = CliRunner().invoke(app, ["train", "ranker", *where, "--out", str(tmp_path / "out"), *given])
    assert said.exit_code == 1
    assert told in said.stdout
    assert not (tmp_path / "out").exists()
