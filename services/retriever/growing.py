"""An array that grows at its end while others read what was there before."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Growing:
    """Values of one dtype, one a row (or `width` a row). Only one thread may add.

    A slice taken by `view` never changes: rows are added behind it, and growth moves to a new array.
    """

    def __init__(self, dtype: DTypeLike, width: int = 0, capacity: int = 1024) -> None:
        self._array: NDArray[Any] = np.empty((capacity, width) if width else capacity, dtype=dtype)
        self.size = 0

    def append(self, value: Any) -> None:
        """Adds one row."""
        self._reserve(self.size + 1)
        self._array[self.size] = value
        self.size += 1

    def extend(self, values: NDArray[Any]) -> None:
        """Adds rows."""
        self._reserve(self.size + len(values))
        self._array[self.size : self.size + len(values)] = values
        self.size += len(values)

    def view(self) -> NDArray[Any]:
        """The rows so far, without a copy."""
        return self._array[: self.size]

    def _reserve(self, size: int) -> None:
        capacity = len(self._array)
        if size > capacity:
            larger = np.empty((max(size, capacity + capacity // 2), *self._array.shape[1:]), dtype=self._array.dtype)
            larger[: self.size] = self._array[: self.size]
            self._array = larger
