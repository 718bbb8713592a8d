"""Checks of what is asked of the retriever: every limit of the contract's comments, by the path of the field."""

import math

from services.domain.checks import Invalid, check_count, check_id, check_range, check_text, check_vector
from services.retriever.filters import check_filter
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

MAX_LEGS = 16
MAX_K = 1_000
MAX_LIST = 2_000
MAX_EXCLUDED = 10_000
MAX_IDS = 1_000
MAX_COMPLETIONS = 50
MIN_EFFORT, MAX_EFFORT = 16, 4_096


def check_search(request: retriever_pb2.SearchRequest) -> None:
    """Raises Invalid for the first field that is malformed or beyond its limit. Vectors' lengths are checked against
    their space later, when that is known."""
    check_count(request.legs, "legs", 1, MAX_LEGS)
    names: set[str] = set()
    for i, leg in enumerate(request.legs):
        check_text(leg.name, f"legs[{i}].name", 32)
        if leg.name in names:
            raise Invalid(f"legs[{i}].name", f"{leg.name!r} stands here twice")
        names.add(leg.name)
        _check_leg(leg, f"legs[{i}]")
    check_range(request.k, "k", 1, MAX_K)
    check_range(request.min_k, "min_k", 0, request.k)
    if request.HasField("filter"):
        check_filter(request.filter)
    check_count(request.exclude_item_ids, "exclude_item_ids", 0, MAX_EXCLUDED)
    if request.effort:
        check_range(request.effort, "effort", MIN_EFFORT, MAX_EFFORT)
    if request.fusion not in retriever_pb2.Fusion.values():
        raise Invalid("fusion", f"{request.fusion} is not a known fusion")


def check_get_vectors(request: retriever_pb2.GetVectorsRequest) -> None:
    """Raises Invalid for the first field that is malformed or beyond its limit."""
    check_count(request.item_ids, "item_ids", 1, MAX_IDS)
    check_space(request.space, "space")


def check_suggest(request: retriever_pb2.SuggestRequest) -> None:
    """Raises Invalid for the first field that is malformed or beyond its limit."""
    check_text(request.prefix, "prefix", 128)
    check_range(request.k, "k", 1, MAX_COMPLETIONS)


def check_space(space: types_pb2.Space.ValueType, field: str) -> None:
    """A space must be named."""
    if space == types_pb2.SPACE_UNSPECIFIED or space not in types_pb2.Space.values():
        raise Invalid(field, f"{space} is not a known space")


def _check_leg(leg: retriever_pb2.Leg, path: str) -> None:
    if leg.HasField("weight") and not (math.isfinite(leg.weight) and leg.weight > 0):
        raise Invalid(f"{path}.weight", f"{leg.weight}; it must be finite and above 0")
    match leg.WhichOneof("query"):
        case "vector":
            check_space(leg.vector.space, f"{path}.vector.space")
            check_vector(leg.vector.vector, f"{path}.vector.vector")
        case "item":
            check_space(leg.item.space, f"{path}.item.space")
            check_id(leg.item.item_id, f"{path}.item.item_id")
        case "words":
            check_text(leg.words.query, f"{path}.words.query", 512)
        case "ids":
            check_count(leg.ids.items, f"{path}.ids.items", 1, MAX_LIST)
            for j, scored in enumerate(leg.ids.items):
                check_id(scored.item_id, f"{path}.ids.items[{j}].item_id")
                if not math.isfinite(scored.score):
                    raise Invalid(f"{path}.ids.items[{j}].score", f"{scored.score}; it must be finite")
        case "popular":
            pass
        case _:
            raise Invalid(path, "says nothing to look for; set vector, item, words, ids or popular")
