"""What each scene may show, as filters that the retrieval searches under, and what stands in where nothing passes."""

from datetime import UTC, datetime, timedelta

from services.domain.offers import BID, CAMPAIGNS, KIND, LEAST_BID, OFFER_FROM, OFFER_UNTIL, PROMOTION
from services.gateway.requests import nodes
from souk import filters
from souk.retriever.v1.retriever_pb2 import Filter
from souk.types.v1 import types_pb2

STANDS_IN = {
    types_pb2.SCENE_NEW_ARRIVALS: "items offered earlier",
    types_pb2.SCENE_PROMOTION: "items that are on no promotion",
}
"""By scene: what is shown where nothing passes its own filter. No other scene shows what is not its own: a campaign
place holds no item, and no one's bid is made up."""

_CAMPAIGN = filters.attribute(KIND, CAMPAIGNS)


def allowed(scene: int, user: Filter, out_of_stock: bool, new_days: float, now: float) -> Filter:
    """The caller's filter (first, so that paths in errors can be told back), what the shop never shows, and what the
    scene is for. `now` in seconds since 1970 UTC."""
    return _all(user, out_of_stock, [*_always(scene, user), *_own(scene, new_days, now)])


def standing_in(scene: int, user: Filter, out_of_stock: bool) -> Filter | None:
    """The same without what the scene is for; None where nothing may stand in."""
    return _all(user, out_of_stock, _always(scene, user)) if scene in STANDS_IN else None


def _all(user: Filter, out_of_stock: bool, rules: list[Filter]) -> Filter:
    nodes = [user] if user.WhichOneof("node") else []
    nodes.append(Filter(visible=True))
    if not out_of_stock:
        nodes.append(filters.in_stock())
    return filters.all_of(*nodes, *rules)


def _always(scene: int, user: Filter) -> list[Filter]:
    """Campaigns are kept out of other scenes, unless the caller's filter says itself which kinds pass."""
    if scene == types_pb2.SCENE_CAMPAIGN:
        return [_CAMPAIGN]
    asked = any(node.attribute.name.casefold() == KIND for node, _ in nodes(user))
    return [] if asked else [_not(_CAMPAIGN)]


def _own(scene: int, new_days: float, now: float) -> list[Filter]:
    if scene == types_pb2.SCENE_NEW_ARRIVALS:
        return [filters.created(since=datetime.fromtimestamp(now, UTC) - timedelta(days=new_days))]
    if scene == types_pb2.SCENE_SPONSORED:
        return [filters.attribute(BID, min=LEAST_BID)]
    running = [_not(filters.attribute(OFFER_FROM, min=now)), _not(filters.attribute(OFFER_UNTIL, max=now))]
    if scene == types_pb2.SCENE_PROMOTION:
        return [filters.attribute(PROMOTION), *running]
    return running if scene == types_pb2.SCENE_CAMPAIGN else []


def _not(node: Filter) -> Filter:
    return Filter(**{"not": node})  # type: ignore[arg-type]
