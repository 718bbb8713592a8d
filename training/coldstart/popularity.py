"""How often items are taken now: recent events and old ones mixed, as the log itself says is best."""

import numpy as np

from training.coldstart.segments import rates
from training.ranker.log import Bools, Floats, Log
from training.ranker.situations import popularity

HALF_LIVES = (7.0, 30.0, 90.0, 365.0)
"""Days. What sells turns over slowly in one shop and fast in another, and within a shop by season."""
_STEPS = 50
# Of the rows of the log: where the latest five windows begin, and how long one is.
_BEGIN, _LENGTH = np.array([0.6, 0.68, 0.76, 0.84, 0.92]), 0.08


def mixed_rates(known: Log, until: float) -> Floats:
    """Share of each item among events to come after `until`, from the rows of a log, all of them before it: above 0,
    summing to 1, (items,).

    A mixture of the shares in events decayed with each half-life and in all events alike. Its weights are the most
    likely ones (expectation maximisation; Dempster, Laird, Rubin 1977) of what was taken in each of the latest five
    windows of the log given what lay before it, every session counting once: thousands of events at five times of the
    year choose, and a mixture is nowhere much worse than the best of its parts. Without time all events count alike.
    """
    everything = np.ones(len(known.item), bool)
    overall = rates(popularity(known, everything, until, np.inf))
    if not known.has_time or not known.liked.any():
        return overall
    times = np.sort(known.time)
    first, last = (
        times[np.minimum((len(times) * at).astype(int), len(times) - 1)] for at in (_BEGIN, _BEGIN + _LENGTH)
    )
    found = [_window(known, begin, end) for begin, end in zip(first.tolist(), last.tolist(), strict=True)]
    windows = [one for one in found if one is not None]
    if not windows:
        return overall
    said = np.concatenate([part for part, _ in windows], axis=1)
    counts = np.concatenate([part for _, part in windows])
    weights = np.full(len(said), 1 / len(said))
    for _ in range(_STEPS):
        shares = weights[:, None] * said
        shares /= shares.sum(axis=0)
        weights = shares @ counts / counts.sum()
    mixed: Floats = weights @ _parts(known, everything, until)
    return mixed


def _window(known: Log, begin: float, end: float) -> tuple[Floats, Floats] | None:
    """What each part said of every event from `begin` to `end` before they came, (parts, events), and how much each
    event counts, (events,); None where nothing lies before the window or speaks for an item in it."""
    before = known.time < begin
    rows = np.flatnonzero((known.time >= begin) & (known.time <= end) & known.liked)
    if not len(rows) or not known.liked[before].any():
        return None
    _, number, sizes = np.unique(known.session[rows], return_inverse=True, return_counts=True)
    return _parts(known, before, begin)[:, known.item[rows]], 1 / sizes[number]


def _parts(known: Log, before: Bools, until: float) -> Floats:
    """Shares in decayed events, 0 for items without any, and in all events alike, which is above 0: (parts, items)."""
    # All events alike are smoothed alone: half an event for every item would drown what a short half-life leaves.
    decayed = [popularity(known, before, until, days) for days in HALF_LIVES]
    parts = [one / max(one.sum(), 1e-300) for one in decayed]
    return np.stack([*parts, rates(popularity(known, before, until, np.inf))])
