"""What the heads learn is chosen by a setting, and refused before anything is trained where the log cannot tell it."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.domain.features import FEATURES
from souk.types.v1 import types_pb2
from tests.unit.training.policy.shop import shop as drawn_shop
from training.ranker.answers import read_answers
from training.ranker.config import RankerConfig
from training.ranker.examination import Unrandomised
from training.ranker.log import read_log
from training.ranker.pipeline import Fitted, Shop, TooLittle, fit_ranker

CONFIG = RankerConfig(objective="policy", dim=16, epochs=1, held_out=0.5, examples_an_epoch=100, minutes=3)


def shop_of(path: Path, random: bool) -> Shop:
    dataset = drawn_shop(path, 1_000, random=random)
    log = read_log(dataset, dataset.events(), 7)
    items = [types_pb2.Item(id=item_id) for item_id in log.item_ids]
    return Shop(log, items, np.zeros((len(items), 4), np.float32), {}, read_answers(dataset, log))


def fit(shop: Shop, path: Path, told: list[str]) -> Fitted:
    return fit_ranker(shop, CONFIG, time.monotonic(), path, told.append, lambda epoch: None)


def test_it_learns_from_all_places_and_is_calibrated(tmp_path: Path) -> None:
    shop = shop_of(tmp_path / "d", random=True)
    fitted = fit(shop, tmp_path, [])
    assert fitted.metrics["ranker.heads_from_answers"] == 1
    assert fitted.metrics["ranker.click_ece"] < 0.06
    assert not fitted.heads.weights[FEATURES.index("few_left")].any()  # Nothing is known of it.


def test_what_was_left_when_it_was_shown_is_learned_from(tmp_path: Path) -> None:
    shop = shop_of(tmp_path / "d", random=True)
    assert shop.answers is not None
    # Most of what is clicked is nearly sold out.
    few = np.random.default_rng(0).random(len(shop.answers.items)) < 0.2 + 0.6 * shop.answers.labels[:, 0]
    stocked = replace(shop, answers=replace(shop.answers, stock=np.where(few, 1.0, 80.0)))
    weights = fit(stocked, tmp_path, []).heads.weights[:, 0]
    assert weights[FEATURES.index("few_left")] > 1


def test_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    told: list[str] = []
    certain = shop_of(tmp_path / "d", random=False)
    with pytest.raises(Unrandomised, match="an order drawn at random"):
        fit(certain, tmp_path, told)
    with pytest.raises(TooLittle, match="objective policy: needs impressions, 200 of the latest with a click"):
        fit(replace(certain, answers=None), tmp_path, told)
    assert told == []
