"""Policies to ask about, each as an order of the items that an answer showed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.domain.features import SCENES
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.answers import Answers
from training.ranker.examination import at_place
from training.ranker.heads import Teller, features_of_answer
from training.ranker.log import Floats, Log

Score = Callable[[Float32, str], Float32]
"""What orders a scene, of features (n, F) and its name without SCENE_: (n,)."""


@dataclass(frozen=True)
class Target:
    """A policy over n logged rows: the probability (n,) of each item at the place where it was logged, and how much it
    is looked at in the mean where the policy puts it (n,)."""

    probability: Floats
    looked_at: Floats


def uniform(answers: Answers, curve: Floats) -> Target:
    """Every order of an answer's items alike."""
    answer, sizes = answers.answer, np.diff(answers.starts)
    seen = np.bincount(answer, at_place(curve, answers.position), len(answers)) / sizes
    return Target((1 / sizes)[answer], seen[answer])


def ordered(answers: Answers, scores: Floats, curve: Floats) -> Target:
    """The best score first, on the places that the answer had; equal scores stand in the order of the items' numbers,
    which say nothing. `scores` (n,)."""
    order = np.lexsort((answers.items, -scores, answers.answer))
    # The places of an answer rise within it: the best gets the first of them.
    place = np.empty(len(order), np.int64)
    place[order] = answers.position
    return Target((place == answers.position).astype(np.float64), at_place(curve, place))


def popularity_scores(answers: Answers, log: Log) -> Floats:
    """Events that spoke for each shown item before its answer: (n,)."""
    liked = np.flatnonzero(log.liked)
    # One number that rises with the item, then the time: how many lie below is found by bisection.
    first, last = float(log.time.min(initial=0)), float(max(log.time.max(initial=0), answers.time.max(initial=0)))
    span = last - first + 1
    keys = np.sort(log.item[liked] * span + (log.time[liked] - first))
    when = np.clip(answers.time[answers.answer] - first, 0, None)
    counts = np.searchsorted(keys, answers.items * span + when) - np.searchsorted(keys, answers.items * span)
    return counts.astype(np.float64)


def ranker_scores(teller: Teller, score: Score, answers: Answers, told: Callable[[int, int], None]) -> Floats:
    """What a ranker says of every shown item at the moment of its answer: (n,)."""
    scores = np.empty(len(answers.items))
    for answer in range(len(answers)):
        part = np.arange(answers.starts[answer], answers.starts[answer + 1])
        scene = SCENES[(int(answers.scene[answer]) or types_pb2.SCENE_HOME) - 1]
        scores[part] = score(features_of_answer(teller, answers, answer, part), scene)
        told(answer + 1, len(answers))
    return scores
