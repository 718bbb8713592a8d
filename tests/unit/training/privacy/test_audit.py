"""An attack finds who was learned from where a head gives it away, and nothing where nothing is there."""

import numpy as np
import pytest

from tests.unit.training.privacy.shoppers import made_up
from training.privacy.audit import PROFILE, Attack, Attacked, Audit, audit, lira


def test_lira_sees_what_the_loss_alone_does_not() -> None:
    rng = np.random.default_rng(0)
    models, shoppers = 16, 60
    member = rng.random((models, shoppers)).argsort(axis=0) < models // 2
    # Some shoppers are easy to foresee and some hard, far more than membership changes.
    losses = np.exp(np.linspace(-4, 2, shoppers) + rng.normal(0, 0.05, (models, shoppers)) - 0.3 * member)
    scores = lira(losses, member)
    assert scores[member].mean() > 2 > -2 > scores[~member].mean()
    unknown = lira(np.exp(np.linspace(-4, 2, shoppers) + rng.normal(0, 0.05, (models, shoppers))), member)
    assert abs(unknown[member].mean() - unknown[~member].mean()) < 0.5


def test_heads_that_know_their_shoppers_by_heart_give_them_away() -> None:
    told: list[tuple[int, int]] = []
    found = audit(PROFILE, made_up(120, foreseen=False), 0.3, 60, 6, 0, lambda done, total: told.append((done, total)))
    assert found.plain.threshold.auc > 0.7
    assert found.private.threshold.auc < 0.6
    for attack in (found.plain.threshold, found.plain.lira, found.private.threshold, found.private.lira):
        assert attack.low < attack.auc < attack.high
    assert found.delta < 1 / 30
    assert told[-1] == (16, 16)


@pytest.mark.parametrize(
    ("plain", "private", "verdict"),
    [(0.59, 0.50, "inconclusive"), (0.60, 0.53, "resisted"), (0.60, 0.54, "attacked")],
)
def test_the_verdict_needs_an_attack_that_works(plain: float, private: float, verdict: str) -> None:
    of_plain, of_private = (Attacked(Attack(0.5, 0.4, 0.6), Attack(auc, 0.4, 0.6), 0.3) for auc in (plain, private))
    assert Audit(300, 32, 3.0, 1e-4, 4.0, of_plain, of_private).verdict == verdict


def test_too_few_are_refused() -> None:
    data = made_up(60)
    with pytest.raises(ValueError, match="models must be an even number"):
        audit(PROFILE, data, 3.0, 50, 5, 0, lambda done, total: None)
    with pytest.raises(ValueError, match="shoppers must be 40 to 59"):
        audit(PROFILE, data, 3.0, 60, 6, 0, lambda done, total: None)
