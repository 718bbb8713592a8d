"""Queries that were scored already, on disk, so that tuning that was killed goes on there."""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Kept:
    """A file of JSON lines: the first says what the others are of, each of these holds what one query reached."""

    def __init__(self, file: Path, identity: object) -> None:
        """`identity`: all that the scores follow from, as JSON values. Raises ValueError where the file is of other."""
        self._file = file
        stamp = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._found: dict[str, NDArray[np.float64]] = {}
        if file.is_file():
            # A last line that was cut off has no end; its query is asked again.
            whole = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
            if not whole or json.loads(whole[0]) != stamp:
                raise ValueError(f"{file}: kept from a tuning of other data, bundle or trials; use these, or remove it")
            self._found = {query: np.array(reached) for query, reached in map(json.loads, whole[1:])}
            file.write_text("".join(whole), encoding="utf-8")
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(stamp) + "\n", encoding="utf-8")

    def of(self, query: str) -> NDArray[np.float64] | None:
        """What `add` was given for the query, None where it was not asked yet."""
        return self._found.get(query)

    def add(self, query: str, reached: NDArray[np.float64]) -> None:
        """Keeps the scores of a query."""
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps([query, reached.tolist()]) + "\n")

    def remove(self) -> None:
        """Nothing is kept any longer."""
        self._file.unlink()
