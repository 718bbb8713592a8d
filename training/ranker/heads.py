"""The heads: one calibrated logistic model an objective over the features of services.domain.features."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from services.domain.features import FEATURES, SCENES, TREND
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.answers import Answers
from training.ranker.examination import at_place
from training.ranker.examples import Examples, Histories, history_batch
from training.ranker.log import Floats, Ints
from training.ranker.measures import measure
from training.ranker.situations import Situations
from training.ranker.words import Words

OBJECTIVES = ("click", "cart", "purchase")
# The deepest event with an item must be at least this for the objective to be met. Their numbers grow with depth.
_DEPTH = (types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE)
# What the click, the cart and the purchase of an item count, by scene: a purchase where shoppers came to buy, interest
# where they look around, the click alone where a place is paid by the click.
SCENE_WEIGHTS: dict[str, tuple[float, ...]] = {
    "SEARCH": (1.0, 1.0, 2.0),
    "HOME": (1.0, 1.0, 1.0),
    "SIMILAR": (1.0, 1.0, 1.0),
    "CART": (0.5, 1.0, 3.0),
    "NEW_ARRIVALS": (1.0, 0.5, 0.5),
    "PROMOTION": (1.0, 1.0, 2.0),
    "CAMPAIGN": (1.0, 0.5, 0.5),
    "SPONSORED": (1.0, 0.0, 0.0),
}
assert set(SCENE_WEIGHTS) == set(SCENES)

# How many the retrieval brings of each leg.
_OF_A_LEG = {"affinity": 60, "together": 60, "profile": 40, "popular": 40, "again": 60, TREND: 20}
_OF_A_LEG |= {"words": 60, "meaning": 60, "like": 60}
# Scenes that show nothing which coldstart proposes for its rising demand.
_WITHOUT_TREND = (
    types_pb2.SCENE_SEARCH,
    types_pb2.SCENE_SIMILAR,
    types_pb2.SCENE_CART,
    types_pb2.SCENE_NEW_ARRIVALS,
    types_pb2.SCENE_CAMPAIGN,
)
_PENALTY = 1e-4
_LEAST_CURVATURE = 1e-4
_STEPS = 60
_BINS = 10
# Examples that are worth waiting for.
_AT_LEAST = 100


@dataclass(frozen=True)
class Heads:
    """probability = sigmoid(features @ weights + bias). weights (len(FEATURES), 3), bias (3,), float32."""

    weights: Float32
    bias: Float32
    doubt: Float32 | None = None
    """(3, len(FEATURES) + 1, len(FEATURES) + 1): the length of (features, 1) @ doubt is the standard deviation of the
    log-odds of each objective. None where the heads do not say how unsure they are."""

    def probability(self, features: Float32) -> Float32:
        """(n, 3)."""
        with np.errstate(over="ignore"):
            found: Float32 = 1 / (1 + np.exp(-(features @ self.weights + self.bias)))
        return found

    def deviation(self, features: Float32) -> Float32:
        """The standard deviation of the log-odds, (n, 3). Raises ValueError where the heads do not say."""
        if self.doubt is None:
            raise ValueError("these heads do not say how unsure they are")
        parts = features @ self.doubt[:, :-1] + self.doubt[:, -1:]
        found: Float32 = np.sqrt((parts**2).sum(axis=2)).T
        return found

    def score(self, features: Float32, scene: str) -> Float32:
        """The weighted sum of the probabilities that orders a scene, (n,)."""
        found: Float32 = self.probability(features) @ np.array(SCENE_WEIGHTS[scene], np.float32)
        return found


@dataclass(frozen=True)
class Rows:
    """n candidates of several moments: features (n, F), labels (n, 3), the number of the moment of each, and the
    chance (n,) that it was looked at, above 0."""

    features: Float32
    labels: Float32
    moment: Ints
    looked_at: Float32

    def ndcg(self, scores: Float32) -> float:
        """NDCG@10 of the clicks by scores (n,), of the order among the candidates of each moment: the mean over moments
        with a click, of whom there must be one. What is no candidate is not asked for."""
        wanted = self.labels[:, 0] > 0
        _, starts = np.unique(self.moment, return_index=True)
        sizes = np.diff([*starts, len(self.moment)])
        table = np.full((len(starts), sizes.max()), np.nan, np.float32)
        hits = np.zeros(table.shape, bool)
        line = np.repeat(np.arange(len(starts)), sizes)
        place = np.arange(len(self.moment)) - starts[line]
        table[line, place], hits[line, place] = scores, wanted
        some = hits.any(axis=1)
        at, where = np.nonzero(hits[some])
        return float(measure(table[some], at, where).ndcg.mean())


class BehaviourModel(Protocol):
    """What makes the vectors of the behaviour space."""

    @property
    def max_history(self) -> int:
        """Latest events that it reads."""

    def table(self, content: Float32) -> Float32:
        """Vectors of all items of a log from those of their content, NaN where one has none: (n, dim)."""

    def shoppers(self, table: Float32, batch: Histories) -> Float32:
        """Vectors of a batch's shoppers, (batch, dim), from the table of all items."""


@dataclass(frozen=True)
class Teller:
    """Says at a moment of a log what every leg of the retrieval would say, and what a scene shows."""

    situations: Situations
    trained: BehaviourModel
    table: Float32
    words: Words | None
    queries: dict[str, Float32]
    """Normalised content vectors of the queries in the log, as far as the encoder reads them."""

    def legs(self, rows: slice, now: float, shopper: Float32, scene: int, query: str) -> dict[str, Float32]:
        """Scores of all items by leg, NaN where a leg says nothing. `now` in seconds since 1970."""
        situations = self.situations
        affinity = np.where(np.isnan(self.table[:, 0]), np.nan, np.nan_to_num(self.table) @ shopper)
        legs = {
            "affinity": affinity.astype(np.float32),
            "together": situations.together(rows),
            "profile": situations.profile(rows),
        }
        if scene not in _WITHOUT_TREND:
            legs[TREND] = situations.trends.at(now)
        if scene == types_pb2.SCENE_SEARCH and query:
            if self.words is not None:
                legs["words"] = self.words.scores(query)
            if query in self.queries:
                legs["meaning"] = situations.near(self.queries[query])
        elif scene == types_pb2.SCENE_SIMILAR and rows.stop > rows.start:
            # The log does not say which item's page it was: most likely that of the last item met.
            content = situations.facts.content[situations.log.item[rows.stop - 1]]
            if content.any():
                legs["like"] = situations.near(content)
        return legs

    def candidates(self, rows: slice, legs: dict[str, Float32]) -> Ints:
        """What the retrieval would bring: the best of every leg, the popular, and what was met before."""
        found = [_best(self.situations.popularity.astype(np.float32), _OF_A_LEG["popular"])]
        found += [_best(scores, _OF_A_LEG[name]) for name, scores in legs.items()]
        found.append(np.unique(self.situations.log.item[rows][::-1][: _OF_A_LEG["again"]]))
        return np.unique(np.concatenate(found))


def rows_of(teller: Teller, examples: Examples, shoppers: Float32, until: float = math.inf) -> Rows:
    """The candidates of every example with what came of them. `shoppers`: the vector of each example, (n, dim).

    From time.monotonic() `until` on the examples that are left are left out, but for the first ones.
    """
    log = teller.situations.log
    features, labels, moments = [], [], []
    for number in range(len(examples)):
        if number >= _AT_LEAST and time.monotonic() > until:
            break
        at = int(examples.end[number])
        rows = teller.situations.history(int(examples.begin[number]), at)
        scene = int(log.scene[at]) or types_pb2.SCENE_HOME
        now = float(examples.now[number])
        legs = teller.legs(rows, now, shoppers[number], scene, str(log.query[at]))
        chosen = teller.candidates(rows, legs)
        known = teller.situations.known(rows, now, chosen, legs)
        features.append(known.features(scene))
        wanted = examples.wanted(number)
        deepest = np.zeros(len(teller.table), np.int64)
        deepest[examples.items[wanted]] = examples.types[wanted]
        labels.append(deepest[chosen][:, None] >= np.array(_DEPTH))
        moments.append(np.full(len(chosen), number))
    return Rows(
        np.concatenate(features) if features else np.empty((0, len(FEATURES)), np.float32),
        np.concatenate(labels).astype(np.float32) if labels else np.empty((0, 3), np.float32),
        np.concatenate(moments) if moments else np.empty(0, np.int64),
        np.ones(sum(map(len, moments)), np.float32),
    )


def rows_of_answers(
    teller: Teller, answers: Answers, chosen: Ints, until: float = math.inf, curve: Floats | None = None
) -> Rows:
    """What was shown in the chosen answers, with what came of it. `until` as for rows_of.

    All places with the chance that each is looked at, by place, where that is given; else the places that were
    probably looked at.
    """
    features, labels, moments, looked = [], [], [], []
    for number, answer in enumerate(chosen.tolist()):
        if number >= _AT_LEAST and time.monotonic() > until:
            break
        part = np.arange(answers.starts[answer], answers.starts[answer + 1])
        if curve is None:
            part = part[answers.looked_at[part]]
        features.append(features_of_answer(teller, answers, answer, part))
        labels.append(answers.labels[part])
        moments.append(np.full(len(part), number))
        looked.append(np.ones(len(part)) if curve is None else at_place(curve, answers.position[part]))
    return Rows(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(moments),
        np.concatenate(looked).astype(np.float32),
    )


def features_of_answer(teller: Teller, answers: Answers, answer: int, part: Ints) -> Float32:
    """The features of what stood at the places `part` of the arrays of items, all of one answer: (len(part), F)."""
    log, trained = teller.situations.log, teller.trained
    begin, end, now = int(answers.begin[answer]), int(answers.end[answer]), float(answers.time[answer])
    rows = teller.situations.history(begin, end)
    # What a shopper without history is given has no affinity in serving either.
    shopper = np.full(teller.table.shape[1], np.nan, np.float32)
    if end > begin:
        batch = history_batch(log, np.array([begin]), np.array([end]), np.array([now]), trained.max_history)
        shopper = trained.shoppers(teller.table, batch)[0]
    scene = int(answers.scene[answer]) or types_pb2.SCENE_HOME
    legs = teller.legs(rows, now, shopper, scene, answers.query[answer])
    known = teller.situations.known(rows, now, answers.items[part], legs, answers.stock[part])
    return known.features(scene)


def fit(rows: Rows) -> Heads:
    """Logistic regression with a small penalty on standardised features, solved by L-BFGS, and how unsure it is.

    Of the probability once looked at: a click at a place that is looked at with the chance e counts as 1 / e of one and
    1 - 1 / e of none, which is in the mean what would be seen if all were looked at (inverse propensity scoring for
    learning from clicks: Joachims, Swaminathan, Schnabel 2017; in this form Saito et al. 2020, "Unbiased recommender
    learning from missing-not-at-random implicit feedback"). The penalty keeps a loss that this makes negative bounded.

    What is not known of the weights: Laplace's approximation of their posterior (MacKay 1992, "The evidence framework
    applied to classification networks"). A feature that never varied has no weight and adds no doubt.
    """
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    # What never varied tells nothing, and must not when it varies in serving.
    used = scale > 1e-6
    scale = np.where(used, scale, 1)
    x = torch.from_numpy((rows.features - mean) / scale * used)
    y = torch.from_numpy(rows.labels / rows.looked_at[:, None])
    rates = y.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.log(rates / (1 - rates)).requires_grad_()
    solver = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weights + bias, y) + _PENALTY * (weights**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    unit = used / scale
    folded = weights.detach().numpy() * unit[:, None]
    # From features and a 1 to what the weights were learned on.
    standard = np.block([[np.diag(unit), np.zeros((len(unit), 1))], [-(mean * unit)[None], np.ones((1, 1))]])
    with torch.no_grad():
        probability = torch.sigmoid(x @ weights + bias).numpy()
    doubt = [standard @ _doubt(x.numpy(), of_one) for of_one in probability.T]
    return Heads(
        folded.astype(np.float32),
        (bias.detach().numpy() - mean @ folded).astype(np.float32),
        np.array(doubt, np.float32),
    )


def calibration(probability: Float32, label: Float32) -> dict[str, float]:
    """Of the probabilities of one objective (n,): `ece`, `mean`, what is told, and `rate`, what was met."""
    return {
        "ece": calibration_error(probability, label),
        "mean": float(probability.mean()),
        "rate": float(label.mean()),
    }


def calibration_error(probability: NDArray[np.floating], label: NDArray[np.floating]) -> float:
    """Expected calibration error over ten bins of equal number (Naeini, Cooper, Hauskrecht 2015)."""
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, _BINS)
    gaps = [abs(probability[part].mean() - label[part].mean()) * len(part) for part in bins if len(part)]
    return float(sum(gaps) / max(len(order), 1))


def _doubt(x: Float32, probability: Float32) -> Floats:
    """L with L @ L.T the inverse of the loss's curvature over all rows, by the weights of x (n, F) and the bias."""
    weight = probability.astype(np.float64) * (1 - probability)
    with_bias = np.append(x, np.ones((len(x), 1)), axis=1).astype(np.float64)
    curvature = (with_bias * weight[:, None]).T @ with_bias
    penalty = np.full(len(curvature), 2 * _PENALTY * len(x))
    # The bias has no penalty; where nothing was ever met, it may be anything up to this.
    penalty[-1] = _LEAST_CURVATURE
    root = np.linalg.cholesky(curvature + np.diag(penalty))
    found: Floats = np.linalg.inv(root).T
    return found


def _best(scores: Float32, k: int) -> Ints:
    """Numbers of the k largest scores above 0, without those that are not there."""
    values = np.where(scores > 0, scores, -np.inf)
    k = min(k, len(values))
    found = np.argpartition(-values, k - 1)[:k]
    return found[np.isfinite(values[found])]
