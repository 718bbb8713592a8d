"""How much each place of an answer is looked at, told from places that were drawn with known propensities."""

import numpy as np

from training.ranker.answers import Answers
from training.ranker.log import Floats, Ints

# Below it a click counts no more: bounds the variance, and makes what is learned of the last places too low.
LEAST = 0.1
# Part of what could have stood at a place to which the log must have given a chance.
_COVERED = 0.9


class Unrandomised(ValueError):
    """Places were not drawn at random, or not enough: what is looked at cannot be told from what is wanted."""


def examination(answers: Answers) -> Floats:
    """The chance that each place is looked at, as a share of the first's: (places,), never growing, at least `LEAST`.

    At two neighbouring places the clicks of the answers that have both are compared as if every item of an answer had
    been as likely to stand at either: each row counts 1 / (items of the answer x propensity), and what is left of the
    difference is the place's (swap interventions, Joachims, Swaminathan, Schnabel 2017, with logged propensities
    instead of swaps). Made to fall by pooling neighbours. Raises Unrandomised.
    """
    answer, places = answers.answer, int(answers.position.max(initial=-1)) + 1
    sizes = np.diff(answers.starts)[answer]
    weights = 1 / (sizes * answers.propensity)
    if not places or weights.mean() < _COVERED:
        raise Unrandomised(
            "impressions: only answers in an order drawn at random tell how much a place is looked at; the log gave "
            f"{weights.mean() if places else 0:.0%} of what such an order would show a chance, {_COVERED:.0%} is needed"
        )
    weights = np.minimum(weights, np.sqrt(len(answers)))
    clicked = answers.labels[:, 0]
    deepest = np.zeros(len(answers), np.int64)
    np.maximum.at(deepest, answer, answers.position)
    curve, counts = np.ones(places), np.zeros(places)
    rates = np.zeros((places, 2))
    for place in range(places):
        at = answers.position == place
        counts[place] = at.sum()
        # Answers that end here have no next place to be compared with.
        for which, rows in enumerate((at, at & (deepest[answer] > place))):
            rates[place, which] = weights[rows] @ clicked[rows] / max(weights[rows].sum(), 1e-12)
    for place in range(1, places):
        before = rates[place - 1, 1]
        curve[place] = curve[place - 1] * (rates[place, 0] / before if before > 0 else 1.0)
    return np.maximum(_falling(curve, np.maximum(counts, 1e-9)), LEAST)


def at_place(curve: Floats, place: Ints) -> Floats:
    """The chance of each place (n,); places below the last known are looked at as much as that."""
    found: Floats = curve[np.minimum(place, len(curve) - 1)]
    return found


def _falling(values: Floats, weights: Floats) -> Floats:
    """The nearest sequence that never grows, by weighted squares (pool adjacent violators), and begins with 1."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (one, a, many), (two, b, more) = blocks[-2], blocks.pop()
            blocks[-1] = ((one * a + two * b) / (a + b), a + b, many + more)
    fitted = np.repeat([value for value, _, _ in blocks], [many for _, _, many in blocks])
    result: Floats = fitted / max(fitted[0], 1e-12)
    return result
