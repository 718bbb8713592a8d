"""Which brands a query may name."""

import threading
from collections.abc import Sequence

from services.domain.words import asked
from services.retriever.columns import Dictionary


class Brands:
    """Brand names by the terms of their words. Names are read when first needed, each once."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._known = 0
        self._reading = threading.Lock()

    def read(self, names: Dictionary) -> None:
        """Takes in names that are new."""
        if self._known == len(names.values):
            return
        with self._reading:
            for code in range(self._known, len(names.values)):
                terms = tuple(word.whole for word in asked(names.values[code]))
                # A number alone is no name that a query could be known by.
                if terms and not all(term.isdigit() for term in terms):
                    self._codes[terms] = (*self._codes.get(terms, ()), code)
                self._known = code + 1

    def codes(self, terms: Sequence[str]) -> tuple[int, ...]:
        """The codes of the brands of this name."""
        return self._codes.get(tuple(terms), ())
