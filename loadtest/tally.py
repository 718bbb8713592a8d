"""What became of the calls of a stretch of time: histograms and counts that can be sent, added and written down."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

# Microseconds, three significant digits.
_LONGEST = 600_000_000
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9}
# Queries and what they found, kept for the quality of answers.
MOST_SAMPLES = 2000


class Times:
    """Durations in an HdrHistogram (Tene); can be pickled. Seconds in, milliseconds out."""

    def __init__(self, encoded: bytes | None = None) -> None:
        self._histogram: Any = HdrHistogram(1, _LONGEST, 3)
        if encoded is not None:
            self._histogram.decode_and_add(encoded)

    def __reduce__(self) -> tuple[type["Times"], tuple[bytes]]:
        return Times, (self._histogram.encode(),)

    @property
    def count(self) -> int:
        """How many."""
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """Adds one; what is longer than ten minutes counts as ten minutes."""
        self._histogram.record_value(min(_LONGEST, max(1, round(seconds * 1e6))))

    def add(self, other: "Times") -> None:
        """Adds all of another."""
        self._histogram.add(other._histogram)

    def at_least(self, seconds: float) -> int:
        """How many took so long or longer, to the histogram's precision."""
        longer = self._histogram.get_recorded_iterator()
        return sum(one.count_added_in_this_iter_step for one in longer if one.value_iterated_to >= seconds * 1e6)

    def to_json(self) -> dict[str, float]:
        """Count, and PERCENTILES, mean and max in milliseconds; only the count where there is none."""
        if not self.count:
            return {"count": 0}
        found = {name: self._histogram.get_value_at_percentile(at) / 1e3 for name, at in PERCENTILES.items()}
        most = self._histogram.get_max_value() / 1e3
        return {"count": self.count} | found | {"mean": self._histogram.get_mean_value() / 1e3, "max": most}


@dataclass
class Tally:
    """Every call that was due is in exactly one of `unsent`, `failed` and `answered`, each by scenario.

    `latency` holds calls that were answered and those whose deadline passed, for a lower bound is better than silence;
    what was refused or failed sooner is counted, not timed.
    """

    unsent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By scenario and gRPC code."""
    degraded: Counter[str] = field(default_factory=Counter)
    """Answers with at least one degradation, by scenario."""
    degradations: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By stage and reason."""
    empty: Counter[str] = field(default_factory=Counter)
    """Answers that show nothing, of scenarios that should."""
    shoppers: Counter[str] = field(default_factory=Counter)
    """Recommendations by how much was known of the shopper."""
    latency: dict[str, Times] = field(default_factory=dict)
    stages: dict[str, Times] = field(default_factory=dict)
    lag: Times = field(default_factory=Times)
    """From when a call was due to when it was sent: what the client itself adds."""
    samples: list[tuple[str, list[str]]] = field(default_factory=list)
    """Queries and the items found."""

    def record(self, times: dict[str, Times], name: str, seconds: float) -> None:
        """Adds a duration to one of `latency` and `stages`."""
        if name not in times:
            times[name] = Times()
        times[name].record(seconds)

    def add(self, other: "Tally") -> None:
        """Adds all of another."""
        for name in ("unsent", "answered", "failed", "degraded", "degradations", "empty", "shoppers"):
            getattr(self, name).update(getattr(other, name))
        for mine, theirs in ((self.latency, other.latency), (self.stages, other.stages)):
            for name, times in theirs.items():
                mine.setdefault(name, Times()).add(times)
        self.lag.add(other.lag)
        self.samples += other.samples[: MOST_SAMPLES - len(self.samples)]

    @property
    def due(self) -> int:
        """Calls that the schedule asked for."""
        return self.answered.total() + self.failed.total() + self.unsent.total()

    def all_latency(self) -> Times:
        """Of all scenarios."""
        return total(self.latency.values())


def total(times: Iterable[Times]) -> Times:
    """All in one."""
    found = Times()
    for one in times:
        found.add(one)
    return found
