"""The review of items by people: what is proposed to them, and the RPCs that write and tell what they decide."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import grpc.aio

from services.coldstart.engine import Engine
from services.coldstart.log import Log
from services.coldstart.shelf import Shelf
from services.domain.checks import check_id, check_range
from souk.coldstart.v1 import review_pb2, review_pb2_grpc
from souk.types.v1 import types_pb2

_Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PROPOSALS = 10
DEFAULT_AUDIT = 100
# Of the standard normal distribution: 95%, both sides.
_Z = 1.96


class ReviewServicer(review_pb2_grpc.ReviewServicer):
    """souk.coldstart.v1.Review."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Decide(self, request: review_pb2.DecideRequest, context: _Context) -> review_pb2.DecideResponse:
        """Part of the contract; answered after the commit."""
        written = await self._engine.write(lambda: self._engine.decisions.decide(request.decision))
        return review_pb2.DecideResponse(decision=written)

    async def ListDecisions(
        self, request: review_pb2.ListDecisionsRequest, context: _Context
    ) -> review_pb2.ListDecisionsResponse:
        """Part of the contract: what answers obey, which is all but approvals."""
        decisions = self._engine.decisions
        version = decisions.version
        if request.version == version:
            return review_pb2.ListDecisionsResponse(version=version, unchanged=True)
        # A hundred thousand approvals may be in force: looked through beside the loop.
        obeyed = await self._engine.page(
            lambda: [one for one in decisions.in_force() if one.verdict != review_pb2.VERDICT_APPROVE]
        )
        return review_pb2.ListDecisionsResponse(decisions=obeyed, version=version)

    async def ListProposals(
        self, request: review_pb2.ListProposalsRequest, context: _Context
    ) -> review_pb2.ListProposalsResponse:
        """Part of the contract."""
        check_range(request.k, "k", 0, 200)
        engine = self._engine

        def find() -> list[review_pb2.Proposal]:
            decided = {one.item_id for one in engine.decisions.in_force()}
            return propose(engine.log, engine.crowd.shelf, decided, request.k or DEFAULT_PROPOSALS)

        found = await engine.page(find)
        return review_pb2.ListProposalsResponse(proposals=found)

    async def ReadAudit(self, request: review_pb2.ReadAuditRequest, context: _Context) -> review_pb2.ReadAuditResponse:
        """Part of the contract."""
        if request.item_id:
            check_id(request.item_id, "item_id")
        check_range(request.limit, "limit", 0, 1_000)
        limit = request.limit or DEFAULT_AUDIT
        found = await self._engine.page(lambda: self._engine.decisions.audit(request.item_id, request.before, limit))
        return review_pb2.ReadAuditResponse(decisions=found)


def propose(log: Log, shelf: Shelf, decided: set[str], k: int) -> list[review_pb2.Proposal]:
    """The k newest items that were never shown, the k that most come back and the k that are most waved away; items
    that can be sold, without those `decided`. Reads all events: call it from a thread."""
    counts = log.counted((types_pb2.EVENT_TYPE_PURCHASE, types_pb2.EVENT_TYPE_RETURN, types_pb2.EVENT_TYPE_SKIP))

    def proposal(item: str, kind: review_pb2.ProposalKind.ValueType) -> review_pb2.Proposal:
        facts, of = shelf.get(item), counts.get(item, {})
        return review_pb2.Proposal(
            item_id=item,
            title=facts.title if facts is not None else "",
            kind=kind,
            shown=shelf.trials(item)[0],
            purchased=of.get(types_pb2.EVENT_TYPE_PURCHASE, 0),
            returned=of.get(types_pb2.EVENT_TYPE_RETURN, 0),
            skipped=of.get(types_pb2.EVENT_TYPE_SKIP, 0),
        )

    def most(event: int, of: Mapping[str, int]) -> Iterator[str]:
        """Items with such events, the largest share of `of` first."""
        shares = {
            item: at_least(one[event], max(one[event], of.get(item, 0)))
            for item, one in counts.items()
            if event in one and item not in decided and (facts := shelf.get(item)) is not None and facts.sellable
        }
        return iter(sorted(shares, key=lambda item: (-shares[item], item))[:k])

    fresh = [one.item for one in shelf.newcomers if not shelf.trials(one.item)[0] and one.item not in decided][:k]
    bought = {item: of.get(types_pb2.EVENT_TYPE_PURCHASE, 0) for item, of in counts.items()}
    shown = {item: shelf.trials(item)[0] for item in counts}
    return [
        *(proposal(item, review_pb2.PROPOSAL_KIND_NEW) for item in fresh),
        *(proposal(item, review_pb2.PROPOSAL_KIND_RETURNED) for item in most(types_pb2.EVENT_TYPE_RETURN, bought)),
        *(proposal(item, review_pb2.PROPOSAL_KIND_SKIPPED) for item in most(types_pb2.EVENT_TYPE_SKIP, shown)),
    ]


def at_least(hits: int, of: int) -> float:
    """The lower end of the 95% score interval of a share (Wilson 1927): 1 of 1 is .21, 50 of 100 .40."""
    share, extra = hits / of, _Z * _Z / of
    spread = _Z * math.sqrt(share * (1 - share) / of + extra / (4 * of))
    return (share + extra / 2 - spread) / (1 + extra)
