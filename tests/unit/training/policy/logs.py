"""A tiny shop whose policies can be enumerated."""

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np

from training.policy.estimators import Logged
from training.ranker.log import Floats, Ints

LOOKED_AT = np.array([1.0, 0.5, 0.25])
WANTED = np.array([0.9, 0.2, 0.4])
"""Chance of a click once looked at, of three items."""
STRENGTH = np.log([1.0, 2.0, 4.0])


def odds_of_orders() -> dict[tuple[int, ...], float]:
    """Every order of the three items with its probability under Plackett-Luce."""
    found = {}
    for order in permutations(range(3)):
        rates = np.exp(STRENGTH[list(order)])
        found[order] = float(np.prod([rates[k] / rates[k:].sum() for k in range(3)]))
    return found


def place_odds() -> Floats:
    """The probability of item i at place k: (3, 3)."""
    odds = np.zeros((3, 3))
    for order, chance in odds_of_orders().items():
        for place, item in enumerate(order):
            odds[item, place] += chance
    return odds


def every_answer() -> Iterator[tuple[Ints, Floats, float]]:
    """Each order with each outcome and its probability: the world whole, as (items, clicks, probability)."""
    for order, chance in odds_of_orders().items():
        items = np.array(order)
        rates = LOOKED_AT * WANTED[items]
        for clicks in product((0.0, 1.0), repeat=3):
            happened = np.where(np.array(clicks) > 0, rates, 1 - rates).prod()
            yield items, np.array(clicks), chance * float(happened)


def one_answer(items: Ints, clicks: Floats) -> Logged:
    """A log of one answer, with its true propensities."""
    place = np.arange(3)
    return Logged(np.zeros(3, np.int64), place, place_odds()[items, place], clicks, np.zeros(1, np.int64))


def drawn(answers: int, seed: int, shoppers: int = 50) -> tuple[Ints, Logged]:
    """A log of many answers and the item of each row."""
    rng = np.random.default_rng(seed)
    orders = list(odds_of_orders().items())
    chosen = rng.choice(len(orders), answers, p=[chance for _, chance in orders])
    items = np.array([order for order, _ in orders])[chosen].ravel()
    place = np.tile(np.arange(3), answers)
    clicks = (rng.random(3 * answers) < LOOKED_AT[place] * WANTED[items]).astype(np.float64)
    owner = rng.integers(0, shoppers, answers)
    return items, Logged(np.repeat(np.arange(answers), 3), place, place_odds()[items, place], clicks, owner)
