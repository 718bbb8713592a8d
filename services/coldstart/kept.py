"""Contexts in memory: bounded by bytes, the one not used for longest goes first, none is used past its time."""

import time
from collections import OrderedDict


class Kept:
    """Values by key, at most `most_bytes` of both together; 0 keeps none. For one event loop."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most, self._seconds = most_bytes, seconds
        self._bytes = 0
        self._values: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> bytes | None:
        """What was put and is still there."""
        until, value = self._values.get(key, (0.0, None))
        if until < time.monotonic():
            self.drop(key)
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Keeps a value, in place of an older one of the same key."""
        self.drop(key)
        self._values[key] = (time.monotonic() + self._seconds, value)
        self._bytes += len(key) + len(value)
        while self._bytes > self._most:
            self.drop(next(iter(self._values)))

    def drop(self, key: bytes) -> None:
        """Keeps it no longer."""
        _, value = self._values.pop(key, (0.0, None))
        if value is not None:
            self._bytes -= len(key) + len(value)
