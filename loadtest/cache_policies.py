"""Compares eviction policies by hit ratio on generated key streams: `python -m loadtest.cache_policies`.

The policies here are small and faithful to their papers; the table is what chose the one in services/runtime/cache.py.
"""

import random
import statistics
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Annotated, Protocol

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Stream = NDArray[np.int64]
KEYS = 20_000
WARM_UP = 0.25  # share of a stream that fills the cache and is not counted


class Policy(Protocol):
    """A cache of at most `capacity` keys."""

    def access(self, key: int) -> bool:
        """Ask for a key, which is then held as the policy sees fit. Returns whether it was held before."""
        ...


class Random:
    """Evicts any key: the floor."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._place: dict[int, int] = {}
        self._keys: list[int] = []
        self._random = random.Random(capacity)

    def access(self, key: int) -> bool:
        if key in self._place:
            return True
        if len(self._keys) < self._capacity:
            self._place[key] = len(self._keys)
            self._keys.append(key)
        else:
            place = self._random.randrange(self._capacity)
            del self._place[self._keys[place]]
            self._keys[place] = key
            self._place[key] = place
        return False


class LRU:
    """Evicts the key asked for least recently."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[int, None] = OrderedDict()

    def access(self, key: int) -> bool:
        if key in self._keys:
            self._keys.move_to_end(key)
            return True
        if len(self._keys) == self._capacity:
            self._keys.popitem(last=False)
        self._keys[key] = None
        return False


class Sieve:
    """SIEVE (Zhang et al., NSDI 2024, algorithm 1): a FIFO queue, visited bits and a hand moving to newer keys."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._visited: dict[int, bool] = {}
        # A doubly linked list through two dicts; -1 is the sentinel before the newest and after the oldest key.
        self._newer: dict[int, int] = {-1: -1}
        self._older: dict[int, int] = {-1: -1}
        self._hand = -1

    def access(self, key: int) -> bool:
        if key in self._visited:
            self._visited[key] = True
            return True
        if len(self._visited) == self._capacity:
            self._evict()
        head = self._older[-1]
        self._older[-1], self._older[key] = key, head
        self._newer[head], self._newer[key] = key, -1
        self._visited[key] = False
        return False

    def _evict(self) -> None:
        hand = self._hand if self._hand != -1 else self._newer[-1]
        while self._visited[hand]:
            self._visited[hand] = False
            hand = self._newer[hand] if self._newer[hand] != -1 else self._newer[-1]
        newer, older = self._newer.pop(hand), self._older.pop(hand)
        self._newer[older], self._older[newer] = newer, older
        self._hand = newer
        del self._visited[hand]


class S3FIFO:
    """S3-FIFO (Yang et al., SOSP 2023, algorithm 1): a small FIFO of newcomers (10%), a main FIFO, a ghost of keys."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._small_target = max(1, capacity // 10)
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._frequency: dict[int, int] = {}

    def access(self, key: int) -> bool:
        frequency = self._frequency.get(key)
        if frequency is not None:
            self._frequency[key] = min(frequency + 1, 3)
            return True
        while len(self._frequency) >= self._capacity:
            if len(self._small) >= self._small_target or not self._main:
                self._evict_small()
            else:
                self._evict_main()
        if key in self._ghost:
            del self._ghost[key]
            self._main.append(key)
        else:
            self._small.append(key)
        self._frequency[key] = 0
        return False

    def _evict_small(self) -> None:
        while self._small:
            key = self._small.popleft()
            if self._frequency[key] > 1:
                self._frequency[key] = 0
                self._main.append(key)
                continue
            del self._frequency[key]
            self._ghost[key] = None
            if len(self._ghost) > self._capacity - self._small_target:
                self._ghost.popitem(last=False)
            return

    def _evict_main(self) -> None:
        while True:
            key = self._main.popleft()
            if self._frequency[key] == 0:
                del self._frequency[key]
                return
            self._frequency[key] -= 1
            self._main.append(key)


class WTinyLFU:
    """W-TinyLFU (Einziger et al., 2017): an LRU window (1%), a segmented LRU (80% protected), a count-min sketch that
    decides whether the window's victim takes the place of the main part's. 4 rows of 4-bit counters, halved after
    ten times the capacity; no doorkeeper.
    """

    _SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)

    def __init__(self, capacity: int) -> None:
        self._window_target = max(1, capacity // 100)
        self._main_target = max(1, capacity - self._window_target)
        self._protected_target = self._main_target * 8 // 10
        self._window: OrderedDict[int, None] = OrderedDict()
        self._probation: OrderedDict[int, None] = OrderedDict()
        self._protected: OrderedDict[int, None] = OrderedDict()
        self._bits = (4 * capacity - 1).bit_length()
        self._rows = [bytearray(1 << self._bits) for _ in self._SEEDS]
        self._counted = 0
        self._sample = 10 * capacity

    def access(self, key: int) -> bool:
        self._count(key)
        if key in self._window:
            self._window.move_to_end(key)
            return True
        if key in self._protected:
            self._protected.move_to_end(key)
            return True
        if key in self._probation:
            del self._probation[key]
            self._protected[key] = None
            if len(self._protected) > self._protected_target:
                demoted, _ = self._protected.popitem(last=False)
                self._probation[demoted] = None
            return True
        self._window[key] = None
        if len(self._window) > self._window_target:
            self._admit(self._window.popitem(last=False)[0])
        return False

    def _admit(self, candidate: int) -> None:
        if len(self._probation) + len(self._protected) >= self._main_target:
            segment = self._probation or self._protected
            if self._estimate(candidate) <= self._estimate(next(iter(segment))):
                return
            segment.popitem(last=False)
        self._probation[candidate] = None

    def _cells(self, key: int) -> Iterator[tuple[bytearray, int]]:
        shift = 64 - self._bits
        for row, seed in zip(self._rows, self._SEEDS, strict=True):
            yield row, ((key + 1) * seed & 0xFFFFFFFFFFFFFFFF) >> shift

    def _estimate(self, key: int) -> int:
        return min(row[cell] for row, cell in self._cells(key))

    def _count(self, key: int) -> None:
        for row, cell in self._cells(key):
            if row[cell] < 15:
                row[cell] += 1
        self._counted += 1
        if self._counted >= self._sample:
            for row in self._rows:
                np.frombuffer(row, np.uint8)[:] >>= 1
            self._counted //= 2


POLICIES: dict[str, Callable[[int], Policy]] = {
    "random": Random,
    "LRU": LRU,
    "SIEVE": Sieve,
    "S3-FIFO": S3FIFO,
    "W-TinyLFU": WTinyLFU,
}


def zipf(rng: np.random.Generator, exponent: float, requests: int, keys: int = KEYS) -> Stream:
    """Keys drawn by rank ** -exponent, ranks shuffled over the keys. Shape (requests,), int64."""
    weights = np.arange(1, keys + 1, dtype=np.float64) ** -exponent
    ranks = rng.choice(keys, size=requests, p=weights / weights.sum())
    return rng.permutation(keys)[ranks]


def zipf_with_scans(rng: np.random.Generator, requests: int) -> Stream:
    """Zipf(1) in which every 10,000 requests a walk asks once for 2,000 keys in a row, as a sweep of the catalogue."""
    parts: list[Stream] = []
    for chunk in np.array_split(zipf(rng, 1.0, requests), max(1, requests // 10_000)):
        start = int(rng.integers(KEYS))
        parts += [chunk, np.arange(start, start + 2_000) % KEYS]
    return np.concatenate(parts)[:requests]


def shifting(rng: np.random.Generator, requests: int) -> Stream:
    """Zipf(1) in which every 10,000 requests a quarter of the keys exchange their ranks, as seasons make them do."""
    weights = np.arange(1, KEYS + 1, dtype=np.float64) ** -1.0
    ranks = rng.choice(KEYS, size=requests, p=weights / weights.sum())
    key_of = rng.permutation(KEYS)
    parts: list[Stream] = []
    for chunk in np.array_split(ranks, max(1, requests // 10_000)):
        moved = rng.choice(KEYS, size=KEYS // 4, replace=False)
        key_of[moved] = key_of[rng.permutation(moved)]
        parts.append(key_of[chunk])
    return np.concatenate(parts)


def hit_ratio(policy: Policy, stream: Stream) -> float:
    """Share of the stream after its warm-up that the policy held."""
    keys = stream.tolist()
    start = int(len(keys) * WARM_UP)
    for key in keys[:start]:
        policy.access(key)
    return sum(map(policy.access, keys[start:])) / (len(keys) - start)


def main(
    requests: Annotated[int, typer.Option(min=10_000, help="Requests in one stream.")] = 200_000,
    seeds: Annotated[int, typer.Option(min=2, help="Streams of each kind.")] = 5,
) -> None:
    """Print the mean hit ratio and its spread over seeds for each policy, stream and slab size."""
    streams: dict[str, Callable[[np.random.Generator], Stream]] = {
        **{f"Zipf {s}": lambda rng, s=s: zipf(rng, s, requests) for s in (0.8, 0.9, 1.0, 1.1)},  # type: ignore[misc]
        "Zipf 1.0 + scans": lambda rng: zipf_with_scans(rng, requests),
        "shifting": lambda rng: shifting(rng, requests),
    }
    table = Table(
        title=f"hit ratio in %, mean ± standard deviation of {seeds} seeds; {KEYS:,} keys, {requests:,} requests"
    )
    for column in ("traffic", "slab", *POLICIES):
        table.add_column(column, justify="left" if column == "traffic" else "right", no_wrap=True)
    spent = dict.fromkeys(POLICIES, 0.0)
    asked = 0
    for name, make in streams.items():
        drawn = [make(np.random.default_rng(seed)) for seed in range(seeds)]
        for share in (0.01, 0.10):
            cells = []
            for label, policy in POLICIES.items():
                begun = time.perf_counter()
                ratios = [100 * hit_ratio(policy(int(KEYS * share)), stream) for stream in drawn]
                spent[label] += time.perf_counter() - begun
                cells.append(f"{statistics.mean(ratios):.2f} ± {statistics.stdev(ratios):.2f}")
            asked += sum(map(len, drawn))
            table.add_row(name, f"{share:.0%}", *cells)
    table.add_section()
    table.add_row("microseconds a request", "", *(f"{spent[label] / asked * 1e6:.2f}" for label in POLICIES))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
