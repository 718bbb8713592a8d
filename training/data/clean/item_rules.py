"""A rule on the whole catalogue: items that it lists twice."""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

from services.domain.words import fold
from training.data.clean.rule import Rule

# Words of letters and digits; Chinese and Japanese letters each by itself.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_Runs = tuple[frozenset[str], ...]


@dataclass(frozen=True, kw_only=True)
class AlikeItems(Rule):
    """Items listed twice: alike in each of the texts `columns`, equal in all columns `same`. The first stays, and what
    events, impressions and judgements tell of the others they tell of it.

    Two texts are alike whose runs of two words share at least `likeness` of the runs of both (resemblance, Broder
    1997). The same numbers must stand in them: a size, a strength or a model makes another item.
    """

    kind = "alike items"
    columns: tuple[str, ...]
    same: tuple[str, ...]
    likeness: float = 0.9

    def reads(self) -> tuple[str, ...]:
        return ("item_id", *self.columns, *self.same)

    def check(self) -> None:
        if not 0 < self.likeness <= 1:
            raise ValueError(f"likeness: must be above 0 and at most 1, not {self.likeness}")

    def twins(self, items: pl.DataFrame) -> dict[str, str]:
        """By id of an item that is alike to one before it: the id of that. None of those that stay are alike, so that
        what was cleaned holds none."""
        words = [[_WORD.findall(fold(text or "")) for text in items[name]] for name in self.columns]
        blocks: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for row, values in enumerate(items.select(self.same).iter_rows()):
            texts = [column[row] for column in words]
            if any(texts):
                numbers = (tuple(sorted(filter(_numbered, text))) for text in texts)
                blocks[(*values, *numbers)].append(row)
        ids = items["item_id"].to_list()
        found: dict[str, str] = {}
        for rows in blocks.values():
            if len(rows) > 1:
                runs = [tuple(_runs(column[row]) for column in words) for row in rows]
                found |= {ids[rows[again]]: ids[rows[first]] for again, first in self._pairs(runs)}
        return found

    def _pairs(self, items: list[_Runs]) -> list[tuple[int, int]]:
        """Who is alike to whom before, of those that stay.

        Exact, and yet few are compared: two sets as alike as that share one of the rarest runs of each, of which there
        are so many as may differ, and one more (Bayardo, Ma and Srikant 2007).
        """
        tagged = [[(number, run) for number, runs in enumerate(item) for run in runs] for item in items]
        often = Counter(run for item in tagged for run in item)
        holders: dict[tuple[int, str], list[int]] = defaultdict(list)
        pairs = []
        for place, item in enumerate(tagged):
            item.sort(key=lambda run: (often[run], run))
            rarest = item[: len(item) - math.ceil(self.likeness * len(item) - 1e-9) + 1]
            asked = dict.fromkeys(other for run in rarest for other in holders[run])
            first = next((other for other in asked if self._alike(items[place], items[other])), None)
            if first is not None:
                pairs.append((place, first))
                continue
            for run in rarest:
                holders[run].append(place)
        return pairs

    def _alike(self, one: _Runs, other: _Runs) -> bool:
        return all(
            mine == theirs or len(mine & theirs) >= self.likeness * len(mine | theirs) - 1e-9
            for mine, theirs in zip(one, other, strict=True)
        )


def _numbered(word: str) -> bool:
    return any(letter.isdecimal() for letter in word)


def _runs(words: list[str]) -> frozenset[str]:
    """Each word with the next; a word alone is its own run."""
    return frozenset(map(" ".join, pairwise(words))) if len(words) > 1 else frozenset(words)
