"""What services.domain.strategies reads, made from a log."""

from dataclasses import dataclass

import numpy as np

from services.domain.strategies import Strategies, nearest_known
from souk.vectors import Float32
from training.coldstart.popularity import mixed_rates
from training.coldstart.segments import Segments
from training.ranker.log import Ints, Log
from training.ranker.neighbours import find_neighbours
from training.ranker.sequences.follows import find_follows
from training.ranker.situations import Facts

_PARTNERS = 100


@dataclass(frozen=True)
class Tuning:
    """What may be tried."""

    likes: int = 20
    """Known neighbours in the content space from which an item takes what is known of them."""


def strategies_of(
    known: Log, facts: Facts, content: Float32, segments: Segments, until: float, tuning: Tuning
) -> Strategies:
    """From the rows of a log that may be learned from, all of them before `until`. `content` (n, dim): vectors of
    length 1, or zeros."""
    n = len(known.item_ids)
    liked = known.liked
    shopper, item, session = known.shopper[liked], known.item[liked], known.session[liked]
    popular = np.log(mixed_rates(known, until))
    unknown = np.bincount(item, minlength=n) == 0
    like, likeness = nearest_known(content, ~unknown & content.any(axis=1), tuning.likes)
    return Strategies(
        content=content,
        unknown=unknown,
        popular=(popular - popular.mean()).astype(np.float32),
        together=find_neighbours(shopper, item, n, _PARTNERS),
        basket=find_neighbours(session, item, n, _PARTNERS),
        follows=find_follows(shopper, item, n),
        like=like,
        likeness=likeness,
        lifts=segments.lifts(known, facts.category)[0],
        brand=facts.brand,
        category=facts.category,
        alike=facts.alike,
    )


def liked_items(log: Log, rows: slice) -> Ints:
    """The items of a history that an event spoke for, oldest first."""
    found: Ints = log.item[rows][log.liked[rows]]
    return found
