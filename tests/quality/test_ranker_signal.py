"""No toy: every part of what the ranker knows of a shopper carries signal. Taken away, NDCG@10 falls.

Tastes in the generated shop do not change, so the order of a history says nothing there: that it is read is shown on a
log of walks, in tests/unit/training/ranker/test_train.py.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import open_dataset
from training.data.generate import generate
from training.data.splits import by_time
from training.evaluate.ranking import (
    Moment,
    affinity_scores,
    judge,
    next_baskets,
    popularity_scores,
    ranker_scores,
    rows_before,
)
from training.ranker.config import RankerConfig
from training.ranker.log import Log, read_log
from training.ranker.measures import Measured
from training.ranker.pipeline import Fitted, Shop, fit_ranker, make_teller

pytestmark = pytest.mark.timeout(400)

# Ended by its epochs, so that a slow machine learns as much.
CONFIG = RankerConfig(minutes=60, epochs=5, patience=5)


@dataclass(frozen=True)
class Ready:
    """A trained ranker, the shop it was trained on, and the baskets it is asked for."""

    shop: Shop
    moment: Moment
    fitted: Fitted
    intact: Measured


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Ready:
    directory = tmp_path_factory.mktemp("ranker")
    generate(directory / "shop", items=400, shoppers=400, seed=21)
    dataset = open_dataset(directory / "shop")
    log = read_log(dataset, dataset.events(), CONFIG.seed)
    cache = Path(__file__).resolve().parents[2] / ".souk/test/content"
    items = list(read_items(dataset.path))
    shop = Shop.of(log, items, Encoder.open(bundle), cache, lambda done, total: None)
    after = float(by_time(dataset, 0.01, 0.2).test["time"].dt.epoch("us").min()) / 1e6  # type: ignore[arg-type]
    moment = next_baskets(log, after, np.inf, 0, 300)
    before = Shop(rows_before(log, moment.seen), shop.items, shop.content, shop.queries)
    torch.set_num_threads(1)
    fitted = fit_ranker(before, CONFIG, time.monotonic(), directory, lambda what: None, lambda epoch: None)
    return Ready(shop, moment, fitted, judge(moment, log, ranker_scores(shop, moment, fitted)))


def fall(ready: Ready, log: Log) -> tuple[float, float]:
    """By how much NDCG@10 falls when histories are read from another log: the mean, and its standard error."""
    altered = judge(ready.moment, ready.shop.log, ranker_scores(ready.shop, ready.moment, ready.fitted, log))
    falls = ready.intact.ndcg - altered.ndcg
    return float(falls.mean()), float(falls.std() / np.sqrt(len(falls)))


def test_events_of_other_shoppers_say_nothing(ready: Ready) -> None:
    log = ready.shop.log
    mean, error = fall(ready, replace(log, item=np.random.default_rng(0).permutation(log.item)))
    assert mean > 3 * error
    assert mean > 0.2 * ready.intact.ndcg.mean()


def test_a_history_forgotten_says_less(ready: Ready) -> None:
    examples = ready.moment.examples
    blank = replace(ready.moment, examples=replace(examples, begin=examples.end))
    scores = ranker_scores(ready.shop, blank, ready.fitted)
    without = judge(blank, ready.shop.log, scores)
    assert ready.intact.ndcg.mean() > 1.2 * without.ndcg.mean()


def test_a_profile_of_nothing_finds_less(ready: Ready) -> None:
    """Precision@10 in categories: how many of the first ten near the dense profile are of a category of the next
    basket, for shoppers whose events can be read. Near a profile of zeros is everything alike: the most popular come
    first."""
    shop, moment, examples = ready.shop, ready.moment, ready.moment.examples
    situations = make_teller(shop, ready.fitted.trained, moment.until, moment.seen).situations
    popular = popularity_scores(shop.log, moment, 30)
    leaf = np.unique([" > ".join(item.category_path) for item in shop.items], return_inverse=True)[1]
    hits = []
    for number in range(len(examples)):
        rows = situations.history(int(examples.begin[number]), int(examples.end[number]))
        near = situations.profile(rows)
        if np.isnan(near).all():
            continue
        wanted = np.unique(leaf[examples.items[examples.wanted(number)]])
        tops = [np.argsort(-scores, kind="stable")[:10] for scores in (np.nan_to_num(near), popular(number))]
        hits.append([np.isin(leaf[top], wanted).mean() for top in tops])
    found, without = np.array(hits).T
    falls = found - without
    assert len(falls) > 100
    assert falls.mean() > 2 * falls.std() / np.sqrt(len(falls))
    assert found.mean() > 1.3 * without.mean()


def test_it_beats_popularity(ready: Ready) -> None:
    log, moment = ready.shop.log, ready.moment
    popular = max(judge(moment, log, popularity_scores(log, moment, days)).ndcg.mean() for days in (7, 30, 365))
    assert ready.intact.ndcg.mean() > 1.5 * popular
    alone = judge(moment, log, affinity_scores(ready.shop, moment, ready.fitted))
    assert alone.ndcg.mean() > popular


def test_relabelled_items_and_shoppers_rank_as_well(ready: Ready, tmp_path: Path) -> None:
    """Another numbering trains to the same scores within noise: numbers and file order are nothing to the ranker."""
    shop, moment = ready.shop, ready.moment
    rng = np.random.default_rng(5)
    order = rng.permutation(len(shop.items))
    number = np.argsort(order)
    log = replace(shop.log, item_ids=[shop.log.item_ids[old] for old in order.tolist()], item=number[shop.log.item])
    other = Shop(log, [shop.items[old] for old in order.tolist()], shop.content[order], shop.queries)
    examples = replace(moment.examples, items=number[moment.examples.items])
    renumbered = replace(moment, examples=examples)
    before = Shop(rows_before(log, moment.seen), other.items, other.content, other.queries)
    fitted = fit_ranker(before, CONFIG, time.monotonic(), tmp_path, lambda what: None, lambda epoch: None)
    again = judge(renumbered, log, ranker_scores(other, renumbered, fitted))
    differences = again.ndcg - ready.intact.ndcg
    error = differences.std() / np.sqrt(len(differences))
    assert abs(differences.mean()) < max(4 * error, 0.15 * ready.intact.ndcg.mean())
