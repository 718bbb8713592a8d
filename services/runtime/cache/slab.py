"""The memory level: one preallocated array of vectors, a dict from key to row, eviction over rows."""

from collections import OrderedDict, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Key = str | bytes


class Slab:
    """Holds at most `capacity` vectors of `dim` float32.

    Evicts by S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1):
    newcomers wait in a small queue of a tenth of the rows, and only those asked for twice more there pass on to the
    main queue, so that a sweep of the catalogue cannot wash out what is hot. Chosen by measured hit ratio
    (docs/cache.md): within a point of W-TinyLFU everywhere and ahead of it where popularity shifts, while a hit only
    adds to its row's byte, for a whole batch at once. LRU is behind by up to 12 points, SIEVE is late to see shifts.

    Raises ValueError where capacity or dim is below 1.
    """

    def __init__(self, capacity: int, dim: int) -> None:
        if capacity < 1 or dim < 1:
            raise ValueError(f"slab: capacity {capacity} and dim {dim} must be at least 1")
        self.capacity = capacity
        self.dim = dim
        self.evictions = 0
        # The row after the last stays zero and stands for every key not held: one gather serves hits and misses.
        self._vectors = np.zeros((capacity + 1, dim), np.float32)
        # How often each row was asked for: numpy adds for a whole batch, the bytearray beneath reads one row faster.
        self._asked = bytearray(capacity + 1)
        self._asked_of = np.frombuffer(self._asked, np.uint8)
        self._row_of: dict[Key, int] = {}
        self._key_of: list[Key] = []
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._small_target = max(1, capacity // 10)
        self._ghost: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._row_of)

    def gather(self, keys: Sequence[Key]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A copy of the keys' vectors (n, dim), zeros where a key is not held, and which are held (n,)."""
        get, nowhere = self._row_of.get, self.capacity
        rows = np.array([get(key, nowhere) for key in keys], np.intp)
        self._asked_of[rows] = np.minimum(self._asked_of[rows] + 1, 3)
        return self._vectors.take(rows, axis=0), rows < nowhere

    def put(self, keys: Sequence[Key], vectors: NDArray[np.float32]) -> None:
        """Holds row i of `vectors` (n, dim) under keys[i]. A key held already keeps its vector."""
        rows: list[int] = []
        taken: list[int] = []
        for at, key in enumerate(keys):
            if key not in self._row_of:
                rows.append(self._row_for(key))
                taken.append(at)
        # A batch beyond the capacity takes a row twice: numpy assigns in order, so the row ends with its last key's.
        self._vectors[rows] = vectors[taken]

    def _row_for(self, key: Key) -> int:
        if len(self._key_of) < self.capacity:
            row = len(self._key_of)
            self._key_of.append(key)
        else:
            row = self._evict()
            self._key_of[row] = key
        self._row_of[key] = row
        self._asked[row] = 0
        if key in self._ghost:
            del self._ghost[key]
            self._main.append(row)
        else:
            self._small.append(row)
        return row

    def _evict(self) -> int:
        self.evictions += 1
        while True:
            if len(self._small) >= self._small_target or not self._main:
                row = self._small.popleft()
                if self._asked[row] > 1:
                    self._asked[row] = 0
                    self._main.append(row)
                    continue
                key = self._key_of[row]
                self._ghost[key] = None
                if len(self._ghost) > self.capacity - self._small_target:
                    self._ghost.popitem(last=False)
            else:
                row = self._main.popleft()
                if self._asked[row]:
                    self._asked[row] -= 1
                    self._main.append(row)
                    continue
                key = self._key_of[row]
            del self._row_of[key]
            return row
