"""Pairs of a query and an item, and of two items, labelled by what shoppers did: no person judged them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse, special, stats

from souk.types.v1 import types_pb2
from training.data.canonical import Dataset
from training.labels.task import Floats, Ints
from training.ranker.answers import Answers
from training.ranker.examination import at_place
from training.ranker.log import Log
from training.ranker.neighbours import PARTNERS, WINDOW, strongest

SEARCH, SESSION, BASKET = "log:search", "log:session", "log:basket"
# Where a pair of a query and an item was bought, put in the cart or stayed with, or only clicked.
BOUGHT, KEPT, CLICKED = 3.0, 2.0, 1.0
# Of a prior worth so many expected clicks one is taken, by the likelihood of the whole log.
_PRIORS = np.geomspace(0.05, 500, 60)
_SESSION_SECONDS = 1800.0
# Two items of one session are more often alike than any two: below this half of all pairs would pass.
SURE_OF_ITEMS, _FEWEST_TOGETHER = 0.8, 1


@dataclass(frozen=True, slots=True)
class Counted:
    """n pairs. `one`: a number of a query or an item; `two`: of an item; `clicks`: how often both came together;
    `expected`: how often they would have, were this pair like all others. Shape (n,) each."""

    one: Ints
    two: Ints
    clicks: Floats
    expected: Floats

    def confidence(self) -> Floats:
        """The chance that the pair truly comes together more often than expected: (n,).

        Clicks are Poisson around `expected` times a rate of the pair, whose rates over the log are Gamma with mean 1
        (DuMouchel 1999, with one component); its spread is the one under which the log is likeliest.
        """
        priors = [(self._likelihood(prior), prior) for prior in _PRIORS.tolist()]
        prior = max(priors)[1]
        found: Floats = stats.gamma.sf(1, self.clicks + prior, scale=1 / (self.expected + prior))
        return found

    def _likelihood(self, prior: float) -> float:
        """Of the log, a negative binomial, but for what the prior does not change."""
        logs = special.gammaln(self.clicks + prior) - special.gammaln(prior) + prior * np.log(prior)
        return float((logs - (self.clicks + prior) * np.log(self.expected + prior)).sum())


@dataclass(frozen=True, slots=True)
class Searched:
    """Pairs of a query and an item that it showed: `queries` by the numbers in `counted.one`; `depth` (n,): 0, or the
    deepest of CLICKED, KEPT, BOUGHT."""

    queries: list[str]
    counted: Counted
    depth: Floats


def searched(answers: Answers, curve: Floats) -> Searched:
    """What the answers to searches say of query and item.

    Expected of a pair: its looks, the sum of the chances that its places were looked at (`curve`, shape (places,)),
    times the clicks a look of all searches. With a curve of ones every showing counts as a look.
    """
    asked = (answers.scene == types_pb2.SCENE_SEARCH) & np.array([bool(text) for text in answers.query], np.bool_)
    rows = asked[answers.answer]
    queries, of_answer = np.unique(np.array(answers.query, np.str_), return_inverse=True)
    query = of_answer[answers.answer[rows]]
    item, labels = answers.items[rows], answers.labels[rows].astype(np.float64)
    size = int(item.max(initial=0)) + 1
    codes, place = np.unique(query * size + item, return_inverse=True)
    looks = np.bincount(place, at_place(curve, answers.position[rows]), len(codes))
    sums: list[Floats] = [np.bincount(place, column, len(codes)).astype(np.float64) for column in labels.T]
    clicks, carts, bought = sums
    rate = clicks.sum() / max(looks.sum(), 1e-12)
    depth = np.select([bought > 0, carts > 0, clicks > 0], [BOUGHT, KEPT, CLICKED], 0.0)
    return Searched(queries.tolist(), Counted(codes // size, codes % size, clicks, rate * looks), depth)


def stayed(dataset: Dataset) -> set[tuple[str, str]]:
    """Queries and item ids of which at least half of the visits lasted as long as half of all visits of the shop do."""
    seen = dataset.events().filter(
        pl.col("dwell_ms").is_not_null() & pl.col("query").is_not_null() & pl.col("item_id").is_not_null()
    )
    long = seen.with_columns(long=pl.col("dwell_ms") >= pl.col("dwell_ms").median())
    kept = long.group_by("query", "item_id").agg(pl.col("long").mean()).filter(pl.col("long") >= 0.5)
    return set(kept.select("query", "item_id").iter_rows())


def clicked_together(answers: Answers, curve: Floats, label: int) -> Counted:
    """Items of one session of a shopper that were clicked (label 0) or bought (2).

    A click counts 1 / (chance that its place was looked at), as examination.at_place has it (inverse propensities,
    Joachims, Swaminathan, Schnabel 2017). A session ends after 30 minutes without an answer.
    """
    rows = answers.labels[:, label] > 0
    answer, item = answers.answer[rows], answers.items[rows]
    order = np.lexsort((answers.time, answers.shopper))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(answers.shopper[order]) != 0) | (np.diff(answers.time[order]) > _SESSION_SECONDS)
    session = np.empty(len(order), np.int64)
    session[order] = np.cumsum(new) - 1
    return _together(session[answer], item, 1 / at_place(curve, answers.position[rows]))


def met_together(log: Log, kinds: tuple[int, ...]) -> Counted:
    """As `clicked_together`, of a log that does not tell what was shown: nothing is corrected. `kinds`: EventTypes."""
    rows = np.isin(log.type, kinds)
    # Without times every event is a session of its own: then all that a shopper did is one.
    group = log.session if log.has_time else log.shopper
    return _together(group[rows], log.item[rows], np.ones(int(rows.sum())))


def _together(group: Ints, item: Ints, weight: Floats) -> Counted:
    """Expected of two items: as if all pairs were drawn from the items by how often each is in pairs at all.

    Weighted counts are brought to the number of equal ones that would be as certain (Kish 1965).
    """
    n, groups = int(item.max(initial=0)) + 1, int(group.max(initial=0)) + 1
    codes, first = np.unique(group * n + item, return_index=True)
    group, item, weight = codes // n, codes % n, weight[first]
    # Who meets very much in one go says little of any two of it, and would make the most pairs.
    fits = np.bincount(group, minlength=groups)[group] <= WINDOW
    group, item, weight = group[fits], item[fits], weight[fits]
    table = sparse.csr_matrix((weight, (group, item)), shape=(groups, n))
    both, squares = sparse.triu(table.T @ table, 1).tocoo(), sparse.triu(table.power(2).T @ table.power(2), 1).tocsr()
    one, two = both.row.astype(np.int64), both.col.astype(np.int64)
    sums = np.bincount(one, both.data, n) + np.bincount(two, both.data, n)
    expected = sums[one] * sums[two] / max(sums.sum(), 1e-12)
    alike = both.data / np.asarray(squares[one, two]).ravel() if len(one) else both.data
    return Counted(one, two, both.data * alike, expected * alike)


def rows_of_searches(
    found: Searched, item_ids: list[str], kept: set[tuple[str, str]], least: float
) -> Iterator[dict[str, Any]]:
    """Rows for the file: pairs that are wanted by at least `least`, by their depth, and, with grade 0, those that are
    as surely not."""
    sure = found.counted.confidence()
    for place in np.flatnonzero((sure >= least) | (sure <= 1 - least)).tolist():
        query, item_id = found.queries[found.counted.one[place]], item_ids[found.counted.two[place]]
        wanted = sure[place] >= least
        depth = max(float(found.depth[place]), KEPT if (query, item_id) in kept else CLICKED)
        yield {
            "query": query,
            "item_id": item_id,
            "grade": depth if wanted else 0.0,
            "source": SEARCH,
            "confidence": float(sure[place] if wanted else 1 - sure[place]),
            "clicks": float(found.counted.clicks[place]),
            "expected": float(found.counted.expected[place]),
            "of_item": None,
        }


def rows_of_items(
    counted: Counted, source: str, item_ids: list[str], titles: dict[str, str], least: float
) -> Iterator[dict[str, Any]]:
    """Rows for the file, both ways: the title of one item as the query of the other, grade 1, at most 40 partners of
    an item, the surest."""
    sure = counted.confidence()
    chosen = np.flatnonzero((sure >= max(least, SURE_OF_ITEMS)) & (counted.clicks > _FEWEST_TOGETHER))
    places = np.concatenate([chosen, chosen])
    one = np.concatenate([counted.one[chosen], counted.two[chosen]])
    two = np.concatenate([counted.two[chosen], counted.one[chosen]])
    for row in strongest(one, sure[places], len(item_ids), PARTNERS).tolist():
        of, place = item_ids[one[row]], places[row]
        if titles.get(of):
            yield {
                "query": titles[of],
                "item_id": item_ids[two[row]],
                "grade": CLICKED,
                "source": source,
                "confidence": float(sure[place]),
                "clicks": float(counted.clicks[place]),
                "expected": float(counted.expected[place]),
                "of_item": of,
            }
