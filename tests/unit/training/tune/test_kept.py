"""Tuning that was killed goes on where it was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from training.tune.kept import Kept
from training.tune.search import Tuned, tune_search
from training.tune.trials import draw_bm25f, draw_trials

ITEMS = ["a", "b", "c"]
GRADES = {f"query {number}": {ITEMS[number % 3]: 3} for number in range(30)}
TRIALS = 4


class Killed(Exception):
    """Stands for the end of a process."""


class Shop:
    """Answers words from what the query and the parameters say, reads no meaning, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def retrieve(self, request: retriever_pb2.SearchRequest, timeout: float) -> retriever_pb2.SearchResponse:
        words = request.legs[0].words
        self.asked.append(words.query)
        order = np.random.default_rng([len(self.asked[-1]), int(words.query[6:]), int(1000 * words.bm25f.k1)])
        ids = order.permutation(ITEMS).tolist()
        legs = [types_pb2.LegScores(leg="words", score=[3.0, 2.0, 1.0], whole=[True, False, False])]
        reports = [retriever_pb2.LegReport(certainty=1.0)]
        return retriever_pb2.SearchResponse(candidates=types_pb2.CandidateColumns(id=ids, legs=legs), reports=reports)

    def embed(self, texts: list[str], **_: Any) -> Any:
        return SimpleNamespace(readings=[SimpleNamespace(covered=False)])


def tune(shop: Any, file: Path, kill_at: int = -1, seed: int = 7) -> Tuned:
    done = 0

    def told(further: int) -> None:
        nonlocal done
        done += further
        if done == kill_at:
            raise Killed

    bm25f, trials = draw_bm25f(TRIALS, seed), draw_trials(TRIALS, seed)
    tuned = tune_search(shop, ITEMS, GRADES, bm25f, trials, Kept(file, [seed, GRADES]), told)
    assert done == TRIALS * len(GRADES)
    return tuned


def test_only_queries_that_were_not_done_are_asked_again(tmp_path: Path) -> None:
    whole = tune(Shop(), tmp_path / "whole")
    with pytest.raises(Killed):
        tune(Shop(), tmp_path / "kept", kill_at=10 * TRIALS + 2)
    with (tmp_path / "kept").open("a") as torn:
        torn.write('["query 10", [[[0.1')
    shop = Shop()
    tuned = tune(shop, tmp_path / "kept")
    assert len(shop.asked) == TRIALS * (len(GRADES) - 10)
    assert not {f"query {number}" for number in range(10)}.intersection(shop.asked)
    assert tuned.to_json() == whole.to_json()
    # Everything is kept now, the query of the torn line too.
    again = Shop()
    assert tune(again, tmp_path / "kept").to_json() == whole.to_json()
    assert again.asked == []


def test_what_is_kept_of_another_tuning_is_refused(tmp_path: Path) -> None:
    tune(Shop(), tmp_path / "kept")
    with pytest.raises(ValueError, match="kept: kept from a tuning of other data, bundle or trials"):
        tune(Shop(), tmp_path / "kept", seed=8)
