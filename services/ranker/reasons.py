"""Why an item stands where it stands: what its score loses when it is as the others are in one respect."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.domain.features import FEATURES, LIKE, LIKED, MEANING, PROFILE, TOGETHER, TREND, WORDS, split_category
from services.domain.offers import PROMOTION
from services.domain.signals import SIGNALS
from services.domain.words import analyse
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

_MOST = 4
# Less than this share of the score is no reason.
_LEAST_SHARE = 0.01

# What one may be told of; where the first feature is not above 0 there is nothing to tell.
_RESPECTS: dict[str, tuple[str, ...]] = {
    "affinity": ("affinity", "affinity_missing"),
    WORDS: (WORDS,),
    MEANING: (MEANING,),
    LIKE: (LIKE,),
    PROFILE: (PROFILE,),
    TOGETHER: (TOGETHER,),
    "popularity": ("popularity",),
    TREND: (TREND,),
    "few_left": ("few_left",),
    "recency": ("recency",),
    "price_closeness": ("price_closeness",),
    "brand_share": ("brand_share",),
    "category_share": ("category_share",),
    PROMOTION: (PROMOTION,),
    "history": ("in_history", *(name for name in FEATURES if name.startswith("history_"))),
    "follows": ("follows", "follows_root", "two_steps_root", "precedes"),
    "graph": ("graph_nearest", "graph_newest", "graph_mean"),
    "content": ("content_nearest", "content_newest", "content_mean"),
    "met_often": ("met_often",),
    "met_lately": ("met_lately",),
}
_BOOST = "boost"
_NAMES = (*FEATURES, *SIGNALS)
_COLUMNS = {respect: [_NAMES.index(name) for name in names] for respect, names in _RESPECTS.items()}

_NEAR = {
    types_pb2.EVENT_TYPE_VIEW: "near what you viewed",
    types_pb2.EVENT_TYPE_CLICK: "near what you looked at",
    types_pb2.EVENT_TYPE_CART: "near what you put into the cart",
    types_pb2.EVENT_TYPE_PURCHASE: "near what you bought",
}
_AGAIN = {
    types_pb2.EVENT_TYPE_VIEW: "you viewed it",
    types_pb2.EVENT_TYPE_CLICK: "you looked at it",
    types_pb2.EVENT_TYPE_CART: "you put it into the cart",
    types_pb2.EVENT_TYPE_PURCHASE: "you bought it",
}

Score = Callable[[Float32], NDArray[np.float64]]
"""Features (n, features), those of FEATURES first, then SIGNALS where the bundle has these -> scores (n,)."""


class Ranked:
    """The request, and the vectors of its n candidates and h events: of length 1, zeros where there is none."""

    def __init__(self, request: ranker_pb2.RankRequest, candidate_vectors: Float32, history_vectors: Float32) -> None:
        self.request = request
        self.asked = frozenset(analyse(request.query))
        self._history = request.context.history
        # Latest first: the first of equals is the latest.
        self._near = [
            at
            for at in reversed(range(len(self._history)))
            if self._history[at].type in LIKED and history_vectors[at].any()
        ]
        self._last = {entry.item_id: entry.type for entry in self._history if entry.type in LIKED}
        self._closeness = candidate_vectors @ history_vectors[self._near].T

    def nearest(self, row: int) -> tuple[str, str]:
        """The event of the history whose item is nearest to the candidate, and that item, which is another one."""
        own = self.request.candidates.id[row]
        closeness = [
            -np.inf if self._history[at].item_id == own else float(self._closeness[row, column])
            for column, at in enumerate(self._near)
        ]
        if not np.isfinite(closeness).any():
            return "fits what you did", ""
        event = self._history[self._near[int(np.argmax(closeness))]]
        return _NEAR[event.type], event.item_id

    def interest(self, row: int) -> str:
        """The shopper's strongest topic that is named for a category of the candidate or a word of its title, else
        nothing: a topic's label begins with its category or its most telling word."""
        candidates = self.request.candidates
        names = {name.casefold() for name in split_category(candidates.categories[candidates.category[row]])}
        names.update(candidates.title[row].casefold().split())
        labels = (topic.label for topic in self.request.context.topics)
        return next((label for label in labels if label.split(", ")[0].casefold() in names), "")

    def again(self, item_id: str) -> tuple[str, str]:
        """What the shopper last did with an item of the history."""
        return _AGAIN[self._last[item_id]], ""


def explain(
    rows: Sequence[int], features: Float32, score: Score, factor: NDArray[np.float64], ranked: Ranked
) -> list[ranker_pb2.Reasons]:
    """Up to four reasons for each of the rows, strongest first; in PROMOTION the promotion is always among them.

    A contribution is the score less the score of the same candidate with the features of one respect at their mean
    over all n candidates (at 0 for one alone), features as in Score. Of a boost it is the score less the score
    without. `factor` (n,) is what `score` is multiplied by.
    """
    usual = features.mean(axis=0) if len(features) > 1 else np.zeros_like(features[0])
    own = features[list(rows)]
    respects = {respect: columns for respect, columns in _COLUMNS.items() if columns[0] < features.shape[1]}
    without = np.repeat(own[:, None], len(respects), axis=1)
    for at, columns in enumerate(respects.values()):
        without[:, at, columns] = usual[columns]
    times = factor[list(rows)]
    scores = times * score(own)
    less = score(without.reshape(-1, features.shape[1])).reshape(len(own), -1)
    contributions = scores[:, None] - times[:, None] * less
    least = _LEAST_SHARE * scores
    scene = ranked.request.scene
    reasons = []
    for at, row in enumerate(rows):
        parts = {
            respect: value
            for respect, value in zip(respects, contributions[at].tolist(), strict=True)
            if own[at, respects[respect][0]] > 0
        }
        if scene != types_pb2.SCENE_SPONSORED:
            parts[_BOOST] = float(scores[at] * (1 - 1 / times[at]))
        strongest = [
            (respect, value) for respect, value in sorted(parts.items(), key=lambda pair: -pair[1]) if value > least[at]
        ][:_MOST]
        if scene == types_pb2.SCENE_PROMOTION and PROMOTION in parts and PROMOTION not in dict(strongest):
            # Among items that all are on promotion it sets none apart, and is why they are here.
            strongest = [*strongest[: _MOST - 1], (PROMOTION, parts[PROMOTION])]
        told = []
        for respect, value in strongest:
            text, subject = _words_of(respect, row, ranked)
            told.append(ranker_pb2.Reason(text=text, subject=subject, contribution=value))
        reasons.append(ranker_pb2.Reasons(reasons=told))
    return reasons


def _words_of(respect: str, row: int, ranked: Ranked) -> tuple[str, str]:
    """What to say, and the item, brand, category or words it is about."""
    request, candidates = ranked.request, ranked.request.candidates
    match respect:
        case "affinity":
            return ranked.nearest(row)
        case "words":
            met = [word for word in candidates.title[row].split() if ranked.asked.intersection(analyse(word))]
            return "matches your words", " ".join(met)
        case "meaning":
            return "means what you asked for", request.query
        case "like":
            return "like what is shown here", request.item_ids[0] if len(request.item_ids) == 1 else ""
        case "profile":
            interest = ranked.interest(row)
            return ("fits your interest in", interest) if interest else ("fits your interests", "")
        case "together" if request.scene == types_pb2.SCENE_SIMILAR:
            return "often met together with what is shown here", request.item_ids[0] if request.item_ids else ""
        case "together" if request.scene == types_pb2.SCENE_CART:
            return "often bought together with what is in the cart", ""
        case "together":
            return "often met together with what you met", ""
        case "popularity" | "met_often":
            return "popular", ""
        case "trend":
            return "more in demand lately", ""
        case "few_left":
            return "few left", ""
        case "follows":
            return "often comes next after what you met", ""
        case "graph":
            return "often met in the company of what you met", ""
        case "content":
            return "like what you met", ""
        case "recency":
            return "new", ""
        case "price_closeness":
            return "priced as you choose", ""
        case "brand_share":
            return "your brand", candidates.brands[candidates.brand[row]]
        case "category_share":
            return "a category of yours", candidates.categories[candidates.category[row]]
        case "promotion":
            return "on promotion:", candidates.promotions[candidates.promotion[row]]
        case "boost":
            return "picked by the shop", ""
        case _:
            return ranked.again(candidates.id[row])
