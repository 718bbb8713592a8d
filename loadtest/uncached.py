"""Queries that nobody asked yet found, such as no cache can answer."""

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

_PROBED = 500
_WORDS = 4


class Uncached:
    """Words of real queries in combinations that nobody asked. Only of queries that the encoder reads: one that it
    cannot read is answered by words alone, and much sooner."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._dice = random.Random(uuid.uuid4().int)

    @classmethod
    async def of(cls, queries: Sequence[str], search: Callable[[str], Awaitable[Any]]) -> "Uncached":
        """From some queries of a log; `search` asks the shop. Raises RuntimeError where the encoder reads none."""
        words: set[str] = set()
        for query in queries[:_PROBED]:
            if not any(one.stage == "embed" for one in (await search(query)).info.degradations):
                words.update(query.split())
        if not words:
            raise RuntimeError("the encoder reads no query of this dataset: nothing uncached can be asked")
        return cls(sorted(words))

    def query(self) -> str:
        """One that no cache knows."""
        return " ".join(self._dice.sample(self._words, min(_WORDS, len(self._words))))
