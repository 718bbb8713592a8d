"""How much is known of a shopper and of an item: the one place where COLD, WARM and HOT are decided.

A shopper is WARM from the first event with an item or the first search that found words of a title, HOT from so many
events with items. An item is WARM from its first event, or once it was shown a while without any, and HOT where so many
more events speak for it than against it. An item goes back where what was bought is returned; the stage only tells, it
takes nothing from the item: what ends an item's time as a new one are age and showings (services/coldstart/shelf.py).
"""

from services.coldstart.shelf import Evidence
from souk.types.v1 import types_pb2

# Showings that were answered by nothing and still say something.
_SHOWN = 20


def of_shopper(events: int, searches: int, hot_events: int) -> types_pb2.Stage.ValueType:
    """The stage of a shopper with so many events with items and so many searches."""
    if events >= hot_events:
        return types_pb2.STAGE_HOT
    return types_pb2.STAGE_WARM if events or searches else types_pb2.STAGE_COLD


def of_item(evidence: Evidence, hot_events: int) -> types_pb2.Stage.ValueType:
    """The stage of an item of which this is known."""
    if evidence.events_for - evidence.events_against >= hot_events:
        return types_pb2.STAGE_HOT
    some = evidence.events_for or evidence.events_against or evidence.answered >= _SHOWN
    return types_pb2.STAGE_WARM if some else types_pb2.STAGE_COLD
