"""Checks of what is asked of the ranker: every limit of the contract's comments, by the path of the field."""

from collections.abc import Collection, Sequence

import numpy as np

from services.domain.checks import (
    Invalid,
    check_attributes,
    check_count,
    check_id,
    check_range,
    check_text,
    check_vector,
)
from services.domain.offers import LEAST_BOOST
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2

MAX_QUERY_BYTES = 512
MAX_ITEMS = 100
MAX_HISTORY = 256
MAX_TOPICS = 16
MAX_SEEN = 2_000
MAX_CART = 100
MAX_SHARES = 16
MAX_ATTRIBUTES = 32
MAX_RERANK = 200

_COLUMNS = ("revision", "title", "price", "currency", "brand", "category", "stock", "created_at", "popularity", "score")
_CODED = (("currency", "currencies"), ("brand", "brands"), ("category", "categories"))
# Columns that have no rows where no candidate has what they tell.
_OPTIONAL = ("promotion", "bid", "supplier", "boost")
_OPTIONAL_CODED = (("promotion", "promotions"), ("supplier", "suppliers"))
_SCENES = frozenset(types_pb2.Scene.values()) - {types_pb2.SCENE_UNSPECIFIED}
_TYPES = frozenset(types_pb2.EventType.values()) - {types_pb2.EVENT_TYPE_UNSPECIFIED}


def check_rank(request: ranker_pb2.RankRequest, max_candidates: int) -> None:
    """Raises Invalid for the first field that is malformed or beyond its limit."""
    check_context(request.context)
    check_text(request.query, "query", MAX_QUERY_BYTES, allow_empty=True)
    if request.scene not in _SCENES:
        raise Invalid("scene", f"{request.scene} is not a scene")
    check_count(request.item_ids, "item_ids", 0, MAX_ITEMS)
    _check_ids(request.item_ids, "item_ids")
    _check_candidates(request.candidates, max_candidates)
    check_range(request.top_k, "top_k", 0, len(request.candidates.id))
    check_range(request.rerank, "rerank", 0, MAX_RERANK)


def check_context(context: coldstart_pb2.ShopperContext) -> None:
    """Raises Invalid for the first field of a shopper's context that is malformed or beyond its limit."""
    if context.shopper_id:
        check_id(context.shopper_id, "context.shopper_id")
    check_count(context.history, "context.history", 0, MAX_HISTORY)
    for i, entry in enumerate(context.history):
        check_id(entry.item_id, f"context.history[{i}].item_id")
        if entry.type not in _TYPES:
            raise Invalid(f"context.history[{i}].type", f"{entry.type} is not an event type")
    check_count(context.topics, "context.topics", 0, MAX_TOPICS)
    for i, topic in enumerate(context.topics):
        check_range(topic.share, f"context.topics[{i}].share", 0, 1)
    if context.HasField("profile"):
        check_vector(context.profile, "context.profile")
    check_count(context.seen_item_ids, "context.seen_item_ids", 0, MAX_SEEN)
    check_count(context.cart_item_ids, "context.cart_item_ids", 0, MAX_CART)
    check_attributes(context.attributes, "context.attributes", MAX_ATTRIBUTES)
    _check_shares(context.brands, "context.brands")
    _check_shares(context.categories, "context.categories")
    if context.HasField("mean_log_price") and not 0 <= context.mean_log_price < np.inf:
        raise Invalid("context.mean_log_price", f"{context.mean_log_price}; it must be finite and 0 or more")


def _check_candidates(candidates: types_pb2.CandidateColumns, most: int) -> None:
    check_count(candidates.id, "candidates.id", 1, most)
    _check_ids(candidates.id, "candidates.id")
    rows = len(candidates.id)
    if len(set(candidates.id)) < rows:
        first = next(i for i, item_id in enumerate(candidates.id) if item_id in candidates.id[:i])
        raise Invalid(f"candidates.id[{first}]", f"{candidates.id[first]!r} stands here twice")
    for column in _COLUMNS:
        _check_rows(getattr(candidates, column), f"candidates.{column}", rows)
    stated = {column for column in _OPTIONAL if getattr(candidates, column)}
    for column in stated:
        _check_rows(getattr(candidates, column), f"candidates.{column}", rows)
    for column, values in (*_CODED, *(pair for pair in _OPTIONAL_CODED if pair[0] in stated)):
        _check_codes(getattr(candidates, column), f"candidates.{column}", len(getattr(candidates, values)), values)
    _check_numbers(candidates.price, "candidates.price", low=0, nan=True)
    _check_numbers(candidates.popularity, "candidates.popularity", low=0)
    _check_numbers(candidates.score, "candidates.score")
    _check_numbers(candidates.bid, "candidates.bid", low=0)
    _check_numbers(candidates.boost, "candidates.boost", low=LEAST_BOOST)
    names: set[str] = set()
    for i, leg in enumerate(candidates.legs):
        check_text(leg.leg, f"candidates.legs[{i}].leg", 32)
        if leg.leg in names:
            raise Invalid(f"candidates.legs[{i}].leg", f"{leg.leg!r} stands here twice")
        names.add(leg.leg)
        _check_rows(leg.score, f"candidates.legs[{i}].score", rows)
        _check_numbers(leg.score, f"candidates.legs[{i}].score", nan=True)
        if leg.whole:
            _check_rows(leg.whole, f"candidates.legs[{i}].whole", rows)


def _check_ids(ids: Sequence[str], field: str) -> None:
    for i, item_id in enumerate(ids):
        check_id(item_id, f"{field}[{i}]")


def _check_rows(column: Collection[object], field: str, rows: int) -> None:
    if len(column) != rows:
        raise Invalid(field, f"holds {len(column)}; candidates.id holds {rows}")


def _check_codes(codes: Sequence[int], field: str, values: int, name: str) -> None:
    if (largest := max(codes)) >= values:
        raise Invalid(f"{field}[{list(codes).index(largest)}]", f"{largest}; candidates.{name} holds {values}")


def _check_numbers(values: Sequence[float], field: str, low: float = -np.inf, nan: bool = False) -> None:
    array = np.array(values, np.float64)
    good = (array >= low) & np.isfinite(array)
    if nan:
        good |= np.isnan(array)
    if not good.all():
        at = int(np.argmin(good))
        least = f" and {low:g} or more" if np.isfinite(low) else ""
        raise Invalid(f"{field}[{at}]", f"{array[at]}; it must be finite{least}")


def _check_shares(shares: Sequence[coldstart_pb2.NamedShare], field: str) -> None:
    check_count(shares, field, 0, MAX_SHARES)
    for i, share in enumerate(shares):
        check_range(share.share, f"{field}[{i}].share", 0, 1)
