"""SASRec as a baseline: what it is asked for, that it does not see what comes, and that it learns an order."""

import time

import numpy as np
import pytest
import torch

from tests.unit.training.ranker.logs import PURCHASE, SKIP, log, tastes
from training.evaluate.ranking import judge, next_baskets, popularity_scores, rows_before
from training.evaluate.sasrec import (
    Sasrec,
    SasrecConfig,
    fit_sasrec,
    next_ends,
    refit_sasrec,
    sasrec_ndcg,
    sasrec_scores,
)

SMALL = SasrecConfig(dim=16, max_history=8, epochs=4, learning_rate=0.01, batch=8)


def test_what_a_row_is_asked_for() -> None:
    """Two shoppers; the first has sessions of two, one and two events."""
    shopper, session = np.array([0, 0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2, 3, 4])
    assert next_ends(shopper, session, False).tolist() == [2, 3, 4, 5, 5, 7, 7]
    # At the end of a session all of the next; the last session of a shopper is asked for nothing.
    assert next_ends(shopper, session, True).tolist() == [1, 3, 5, 4, 5, 7, 7]


def test_what_comes_is_not_seen() -> None:
    torch.manual_seed(0)
    model = Sasrec(10, SMALL).eval()
    sizes = torch.tensor([4])
    one, two = (model(torch.tensor([[1, 2, 3, last]]), sizes) for last in (4, 9))
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3], two[:, 3])
    # Nor does padding count.
    torch.testing.assert_close(model(torch.tensor([[1, 2, 3, 4, 0, 0]]), sizes)[:, :4], one)


@pytest.mark.parametrize("next_session", [False, True])
def test_it_learns_an_order(next_session: bool) -> None:
    made, _ = tastes(shoppers=100, items=30, groups=3)
    moment = next_baskets(made, 9 * 86_400.0, np.inf, 0, 40)
    config = SasrecConfig(**{**vars(SMALL), "next_session": next_session, "epochs": 6})
    part = rows_before(made, moment.seen)
    model, steps = fit_sasrec(part, config, 0, time.monotonic() + 60, sasrec_ndcg(made, moment))
    reached = judge(moment, made, sasrec_scores(made, moment, model)).ndcg.mean()
    assert reached > judge(moment, made, popularity_scores(made, moment, 30)).ndcg.mean() + 0.2
    assert 0 < steps.taken <= steps.planned


def test_trained_again_for_as_long() -> None:
    made, _ = tastes(shoppers=20, items=12, groups=3)
    moment = next_baskets(made, 9 * 86_400.0, np.inf, 0, 5)
    _, steps = fit_sasrec(made, SMALL, 0, time.monotonic() + 60, sasrec_ndcg(made, moment))
    one, two, other = (refit_sasrec(made, SMALL, seed, steps).items.weight for seed in (0, 0, 1))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(one, other)


def test_out_of_time_it_has_learned_a_step() -> None:
    made, _ = tastes(shoppers=20, items=12, groups=3)
    _, steps = fit_sasrec(made, SMALL, 0, time.monotonic(), lambda model: 0.0)
    assert steps.taken == steps.planned == 1


def test_a_shopper_who_liked_nothing_is_given_what_is_popular() -> None:
    rows = [(0, 2, PURCHASE, 0.0), (0, 2, PURCHASE, 1.0), (1, 1, SKIP, 0.0), (1, 3, PURCHASE, 30.0)]
    made = log(rows, items=5)
    moment = next_baskets(made, 20 * 3600.0, np.inf, 0, 5)
    assert sasrec_scores(made, moment, Sasrec(5, SMALL))(0).tolist() == [0, 0, 2, 0, 0]
