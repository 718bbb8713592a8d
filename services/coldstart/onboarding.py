"""Questions for a shopper nobody knows: those whose answers tell most of the topics that will interest.

A question parts the popular items by category, brand or price; an answer is a part. Chosen is, one by one, the question
that adds most to the mutual information between all answers together and the topic of an item drawn by popularity
(greedy choice of the most informative query: Golbandi, Koren, Lempel, WSDM 2011, on trees of such questions). Without
topics, the top category stands in for the topic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.coldstart.log import Facts
from services.coldstart.popularity import Scored
from services.coldstart.shelf import roots
from souk.coldstart.v1 import coldstart_pb2
from souk.vectors import Float32

MAX_ITEMS = 500
_MAX_CHOICES = 8
_MIN_SHARE = 0.02
_EXAMPLES = 3
_PRICE_BANDS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Question:
    id: str
    text: str
    choices: list[str]
    answer: NDArray[np.int64]
    """The choice each of n items stands for; len(choices): none of them."""


def questions(
    popular: Scored, facts: Mapping[str, Facts], topics: Mapping[str, Float32], seen: frozenset[str], k: int
) -> list[coldstart_pb2.OnboardingQuestion]:
    """At most k questions, most telling first; each choice stands for its most popular items, none of them seen.

    `topics`: topic vectors (topics,) by item; empty where there are none.
    """
    items = [(item, score) for item, score in popular if item in facts and (not topics or item in topics)][:MAX_ITEMS]
    if not items:
        return []
    names = [item for item, _ in items]
    known = [facts[item] for item in names]
    mass = np.array([max(score, 0.0) + 1.0 for _, score in items])
    mass /= mass.sum()
    subject = _subject(names, known, topics)
    remaining = _candidates(known, mass)
    chosen: list[_Question] = []
    parts = np.zeros(len(items), np.int64)
    told = 0.0
    while remaining and len(chosen) < k:
        gains = [(_information(_refine(parts, question.answer), mass, subject), question) for question in remaining]
        most, best = max(gains, key=lambda each: each[0])
        if most - told < 1e-6:
            break
        told, parts = most, _refine(parts, best.answer)
        remaining.remove(best)
        chosen.append(best)
    return [_told(question, names, seen) for question in chosen]


def _subject(names: Sequence[str], known: Sequence[Facts], topics: Mapping[str, Float32]) -> Floats:
    """What is to be learned of each item: (n, topics), rows summing to 1."""
    if topics:
        return np.stack([topics[name] for name in names]).astype(np.float64)
    tops = [_top(each) for each in known]
    return np.eye(len(tops))[_numbers(tops)]


def _candidates(known: Sequence[Facts], mass: Floats) -> list[_Question]:
    found = [
        _by_name("category", "What are you looking for?", [_top(each) for each in known], mass),
        _by_name("brand", "Which of these brands do you like?", [each.brand for each in known], mass),
        _by_price(known),
    ]
    tops = [_top(each) for each in known]
    for top in dict.fromkeys(tops):
        below = [_second(each) if _top(each) == top else "" for each in known]
        found.append(_by_name(f"category:{top}", f"{top}: what do you like most?", below, mass))
    return [question for question in found if question is not None]


def _by_name(id_: str, text: str, names: Sequence[str], mass: Floats) -> _Question | None:
    """A question whose choices are the names with most mass; None with fewer than two."""
    sums: dict[str, float] = {}
    for name, share in zip(names, mass.tolist(), strict=True):
        if name:
            sums[name] = sums.get(name, 0.0) + share
    choices = sorted((name for name in sums if sums[name] >= _MIN_SHARE), key=lambda name: (-sums[name], name))
    choices = choices[:_MAX_CHOICES]
    if len(choices) < 2:
        return None
    number = {name: place for place, name in enumerate(choices)}
    return _Question(id_, text, choices, np.array([number.get(name, len(choices)) for name in names]))


def _by_price(known: Sequence[Facts]) -> _Question | None:
    prices = np.array([np.nan if each.price is None else each.price for each in known])
    priced = np.isfinite(prices)
    if priced.sum() < 2 * _PRICE_BANDS:
        return None
    bounds = np.unique(np.quantile(prices[priced], np.linspace(0, 1, _PRICE_BANDS + 1)[1:-1]))
    answer = np.where(priced, np.searchsorted(bounds, np.nan_to_num(prices), side="right"), len(bounds) + 1)
    if len(np.unique(answer[priced])) < 2:
        return None
    limits = [f"{bound:,.2f}" for bound in bounds]
    middle = [f"{low} to {high}" for low, high in pairwise(limits)]
    choices = [f"under {limits[0]}", *middle, f"{limits[-1]} and more"]
    return _Question("price", "How much do you like to spend?", choices, answer)


def _refine(parts: NDArray[np.int64], answer: NDArray[np.int64]) -> NDArray[np.int64]:
    """The parts that come of answering one more question."""
    _, refined = np.unique(np.stack([parts, answer]), axis=1, return_inverse=True)
    return refined.reshape(-1).astype(np.int64)


def _information(parts: NDArray[np.int64], mass: Floats, subject: Floats) -> float:
    """Mutual information, in nats, of the part an item is in and its topic."""
    joint = np.zeros((int(parts.max()) + 1, subject.shape[1]))
    np.add.at(joint, parts, mass[:, None] * subject)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def _told(question: _Question, names: Sequence[str], seen: frozenset[str]) -> coldstart_pb2.OnboardingQuestion:
    told = coldstart_pb2.OnboardingQuestion(question_id=question.id, text=question.text)
    for number, text in enumerate(question.choices):
        members = [names[row] for row in np.flatnonzero(question.answer == number).tolist() if names[row] not in seen]
        if members:
            told.choices.add(text=text, item_ids=members[:_EXAMPLES])
    return told


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names])


def _top(facts: Facts) -> str:
    return next(iter(roots(facts.category)), "")


def _second(facts: Facts) -> str:
    path = roots(facts.category)
    return path[1].rpartition(" > ")[2] if len(path) > 1 else ""
