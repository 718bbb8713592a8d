"""What the generated shop shows and with which probability: pages ordered by demand with Gumbel noise. Numpy only.

An order by strength + Gumbel noise is a draw from the Plackett-Luce model with weights exp(strength) (Yellott 1977),
the same as the order in which exponential clocks of these rates ring. So the probability that item i stands at place k
is that of exactly k others ringing before it: the integral over its own ringing time of a Poisson binomial.
"""

from dataclasses import dataclass

import numpy as np

from training.data.world import Bools, Floats, Ints

_NODES = 48
_AT_ONCE = 2_000


@dataclass(frozen=True)
class Pages:
    """Pages of one block of shoppers: shape (n,), or (n, places) from the top down where it says so."""

    page: Ints
    shopper: Ints
    # Days since the log began.
    time: Floats
    scene: Ints
    # Query: form, group, variant (a random number), item it aims at; form -1 without one.
    form: Ints
    group: Ints
    variant: Ints
    target: Ints
    # (n, places) each: the item, whether there is one, and what it is ordered by before the noise.
    item: Ints
    there: Bools
    strength: Floats
    # Chance of a click once looked at, and what became of it.
    chance: Floats
    clicked: Bools
    carted: Bools
    purchased: Bools


def place_odds(strength: Floats, there: Bools) -> Floats:
    """The probability of every item to stand where it stands: (n, places), both arguments too, from the top down.

    Items that are not `there` stand last and take part in nothing; theirs is 1.
    """
    parts = range(0, len(strength), _AT_ONCE)
    return np.concatenate([_odds(strength[at : at + _AT_ONCE], there[at : at + _AT_ONCE]) for at in parts])


def _odds(strength: Floats, there: Bools) -> Floats:
    n, places = strength.shape
    # The quantile of an item's own clock is even on 0 to 1.
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    waited = -np.log1p(-(nodes + 1) / 2)
    odds: Floats = np.ones((n, places))
    for place in range(places):
        rates = np.exp(np.minimum(strength - strength[:, place, None], 50)) * there
        # Of others before it, as far as `place` of them: (places + 1, n, nodes).
        before = np.zeros((place + 1, n, _NODES))
        before[0] = 1
        for other in range(places):
            if other == place:
                continue
            rung = -np.expm1(-rates[:, other, None] * waited)
            stays = before * (1 - rung)
            stays[1:] += before[:-1] * rung
            before = stays
        odds[:, place] = np.where(there[:, place], before[place] @ (weights / 2), 1)
    return odds
