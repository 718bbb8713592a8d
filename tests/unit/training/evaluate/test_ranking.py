"""The protocol: the next basket after a split, nothing of it seen, baselines and ranker ranked alike."""

import time
from pathlib import Path

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import PURCHASE, SKIP, log, tastes
from training.evaluate.ranking import (
    affinity_scores,
    has_repeats,
    judge,
    knn_scores,
    last_events,
    next_baskets,
    popularity_scores,
    ranker_scores,
    rows_before,
)
from training.ranker.config import RankerConfig
from training.ranker.pipeline import Shop, TooLittle, fit_ranker

DAY = 86_400.0


def test_the_first_basket_after_the_split_and_nothing_of_it_before() -> None:
    rows = [(0, 1, PURCHASE, 0.0), (0, 2, PURCHASE, 30.0), (0, 3, PURCHASE, 60.0)]
    made = log([*rows, (1, 4, PURCHASE, 40.0), (1, 5, PURCHASE, 41.0), (2, 6, PURCHASE, 1.0)])
    moment = next_baskets(made, 30 * 3600.0, np.inf, 0, 10)
    assert made.shopper[moment.examples.end].tolist() == [0, 1]
    assert moment.examples.items.tolist() == [2, 5]
    assert made.time[moment.seen].max() < 30 * 3600
    cut = rows_before(made, moment.seen)
    assert cut.item.tolist() == [1, 6]
    assert cut.session.tolist() == [0, 1]
    assert cut.item_ids == made.item_ids


def test_the_last_event_of_who_has_three() -> None:
    rows = [(0, 1, PURCHASE, 0.0), (0, 2, PURCHASE, 30.0), (0, 3, PURCHASE, 30.1)]
    few = [(1, 4, PURCHASE, 0.0), (1, 5, PURCHASE, 1.0)]
    made = log([*rows, *few, (2, 6, PURCHASE, 0.0), (2, 7, PURCHASE, 1.0), (2, 8, SKIP, 2.0)])
    test, validation = (last_events(made, back, 0, 10) for back in (1, 2))
    # Who skipped the last is not asked for it.
    assert test.examples.items.tolist() == [3]
    assert validation.examples.items.tolist() == [2, 7]
    assert made.item[test.seen].tolist() == [1, 2, 4, 5, 6, 7]
    assert made.item[validation.seen].tolist() == [1, 4, 5, 6]
    assert test.examples.end.tolist() == [2]
    assert test.until == 30 * 3600.0


def test_what_was_met_is_left_out_only_where_nothing_was_bought_again() -> None:
    """Told by what lies before the split alone."""
    rows = [(0, 1, PURCHASE, 0.0), (0, 2, PURCHASE, 3.0), (0, 1, PURCHASE, 30.0)]
    once, twice = log(rows), log([*rows, (1, 3, PURCHASE, 0.0), (1, 3, PURCHASE, 3.0)])
    assert has_repeats(twice)
    own = np.zeros(10, np.float32)
    own[1] = 1
    reached = []
    for made in (once, twice):
        moment = next_baskets(made, DAY, np.inf, 0, 10)
        reached.append(judge(moment, made, lambda number: own).ndcg.tolist())
    assert reached == [[0.0], [1.0]]


@pytest.mark.timeout(240)
def test_the_ranker_learns_what_popularity_cannot_know(tmp_path: Path) -> None:
    made, content = tastes(shoppers=150)
    items = [types_pb2.Item(id=item_id) for item_id in made.item_ids]
    shop = Shop(made, items, content, {})
    moment = next_baskets(made, 9 * DAY, np.inf, 0, 60)
    part = Shop(rows_before(made, moment.seen), items, content, {})
    config = RankerConfig(dim=16, max_history=8, epochs=8, patience=8, learning_rate=0.01, batch=64, minutes=2)
    fitted = fit_ranker(part, config, time.monotonic(), tmp_path, lambda what: None, lambda epoch: None)
    systems = {
        "popularity": popularity_scores(made, moment, 30),
        "knn": knn_scores(made, moment, "shopper", 30, 0.9),
        "alone": affinity_scores(shop, moment, fitted),
        "ranker": ranker_scores(shop, moment, fitted),
    }
    reached = {name: judge(moment, made, scores).ndcg.mean() for name, scores in systems.items()}
    assert reached["alone"] > reached["popularity"] + 0.2
    assert reached["ranker"] > reached["popularity"] + 0.2
    assert 0 <= fitted.metrics["ranker.purchase_ece"] < 0.1


def test_too_small_a_log_is_refused(tmp_path: Path) -> None:
    made = log([(0, 1, PURCHASE, 0.0), (0, 2, PURCHASE, 30.0)])
    shop = Shop(made, [types_pb2.Item(id=one) for one in made.item_ids], np.zeros((10, 4), np.float32), {})
    with pytest.raises(TooLittle, match="1 moments at which shoppers with a history liked something: at least 20"):
        fit_ranker(shop, RankerConfig(), time.monotonic(), tmp_path, lambda what: None, lambda epoch: None)
