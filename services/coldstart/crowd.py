"""What all shoppers together say: items, what is popular, what is met together. Derived from the log, bounded."""

from services.coldstart.log import Batch, Happening, Log
from services.coldstart.popularity import Popularity
from services.coldstart.shelf import Shelf
from services.coldstart.titles import Titles
from services.coldstart.together import Together
from services.domain.features import LIKED, TURNED_DOWN
from souk.types.v1 import types_pb2

# Events read at the start: the latest, which is where nearly all weight is.
_REPLAY_EVENTS = 300_000
_REPLAY_AT_ONCE = 10_000
# Items cease to be new without anything being told.
_REFRESH_SECONDS = 60.0
_BASKET_MS = 3600 * 1000
# From this share of re-buys among purchases on, what was bought may be shown again.
_REPEATS = 0.05
_REPEATS_KNOWN_FROM = 20


class Crowd:
    """Kept up by the log's writer through `told`, read from any thread."""

    def __init__(self, half_life_days: float, new_days: float) -> None:
        self._new_days = new_days
        self.shelf = Shelf()
        self.titles = Titles()
        self.popularity = Popularity(half_life_days)
        self.met = Together(LIKED, None)
        """Items of the same shoppers, however far apart."""
        self.bought = Together(frozenset((types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE)), _BASKET_MS)
        """Items of the same baskets."""
        self.repeats = False
        """Whether shoppers of this shop buy the same things again."""
        self._stale = True
        self._refreshed = 0.0

    def load(self, log: Log, now: float) -> None:
        """Makes all of it from the log; before its writer starts."""
        for item, facts, shown, clicked in log.items():
            self.shelf.put(item, facts, shown, clicked)
            self.titles.put(item, facts.title)
            self.popularity.put(item, facts)
        for item, counts in log.counted(list(LIKED | TURNED_DOWN)).items():
            self.shelf.heard(item, counts)
        some: list[Happening] = []
        for happening in log.replay(_REPLAY_EVENTS):
            some.append(happening)
            if len(some) >= _REPLAY_AT_ONCE:
                self._add(some)
                some = []
        self._add(some)
        self._count_repeats(log)
        self.refresh(now)

    def told(self, batch: Batch, log: Log, now: float) -> None:
        """Takes in what was committed."""
        for item, facts in batch.items.items():
            self.shelf.put(item, facts)
            self.titles.put(item, facts.title)
            self.popularity.put(item, facts)
        self.shelf.tried(batch.shown, batch.clicked, now)
        for item, kind in batch.joined:
            self.shelf.heard(item, {kind: 1})
        self._add(batch.happened)
        self.met.forget(batch.forgotten)
        self.bought.forget(batch.forgotten)
        self._count_repeats(log)
        self._stale = True

    def refresh(self, now: float) -> None:
        """Makes charts and newcomers anew where something was told since the last time, or that was long ago."""
        if self._stale or now - self._refreshed > _REFRESH_SECONDS:
            self._stale, self._refreshed = False, now
            self.popularity.refresh()
            self.shelf.refresh(now, self._new_days)

    def _add(self, happenings: list[Happening]) -> None:
        self.popularity.add(happenings)
        self.met.add(happenings)
        self.bought.add(happenings)

    def _count_repeats(self, log: Log) -> None:
        counts = log.counts
        self.repeats = counts.purchases >= _REPEATS_KNOWN_FROM and counts.rebuys >= _REPEATS * counts.purchases
