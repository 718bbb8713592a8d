"""Events, items and a small generation that coldstart's tests share."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from services.coldstart.crowd import Crowd
from services.coldstart.knowledge import Behaviour, Knowledge, Topics
from services.coldstart.log import Log
from services.coldstart.settings import ColdstartSettings
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

VIEW, CLICK = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CLICK
CART, UNCART = types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_UNCART
PURCHASE, RETURN, SKIP = types_pb2.EVENT_TYPE_PURCHASE, types_pb2.EVENT_TYPE_RETURN, types_pb2.EVENT_TYPE_SKIP
SEARCH = types_pb2.EVENT_TYPE_SEARCH
NOW = 1_790_000_000.0
"""The clock of a log in tests, in seconds since 1970."""
DAY = 86_400
SPACE = "content-1"
TOPICS = ("shoes", "lamps", "tea")


def event(
    event_id: str, shopper: str = "s", item: str = "i", kind: int = VIEW, at: float | None = None, **fields: Any
) -> types_pb2.Event:
    """An event; `at` in seconds since 1970."""
    made = types_pb2.Event(
        event_id=event_id, shopper_id=shopper, type=types_pb2.EventType.ValueType(kind), item_id=item, **fields
    )
    if at is not None:
        made.time.FromNanoseconds(round(at * 1e9))
    return made


def item(item_id: str, *category: str, age_days: float = 100, revision: int = 1, **fields: Any) -> types_pb2.Item:
    """An item offered so long ago."""
    made = types_pb2.Item(id=item_id, revision=revision, title=f"Thing {item_id}", category_path=category, **fields)
    made.created_at.FromNanoseconds(int((NOW - age_days * DAY) * 1e9))
    return made


def towards(topic: int, seed: int = 0, dim: int = 8) -> Float32:
    """A content vector that mostly speaks of one topic, shape (dim,), length 1."""
    vector = np.random.default_rng(seed).normal(0, 0.1, dim)
    vector[topic] += 1
    scaled: Float32 = (vector / np.linalg.norm(vector)).astype(np.float32)
    return scaled


def knowledge(dim: int = 8, topics: bool = True) -> Knowledge:
    """A generation whose topic n is the n-th content dimension."""
    weights = 8 * np.eye(len(TOPICS), dim, dtype=np.float32)
    space = Topics("topics-1", TOPICS, weights, np.zeros(len(TOPICS), np.float32))
    random = np.random.default_rng(3)
    behaviour = Behaviour(
        "behaviour-1",
        {"trained": 0},
        np.array([[0.6, 0.8, 0, 0]], np.float32),
        random.normal(size=(dim, 4)).astype(np.float32),
        np.zeros(4, np.float32),
    )
    return Knowledge("g" * 64, SPACE, dim, space if topics else None, behaviour if topics else None)


def configured(**fields: Any) -> ColdstartSettings:
    """Settings with defaults but these."""
    return ColdstartSettings(**fields)


class Shop:
    """An open log with what is derived from it, at a clock that stands."""

    def __init__(self, directory: Path, **fields: Any) -> None:
        self.settings = configured(data=directory, **fields)
        self.log = Log(directory, clock=lambda: NOW)
        self.crowd = Crowd(self.settings.half_life_days, self.settings.new_days)
        self.crowd.load(self.log, NOW)
        self.log.start(lambda batch: self.crowd.told(batch, self.log, NOW))

    def record(self, *events: types_pb2.Event) -> coldstart_pb2.RecordEventsResponse:
        """Writes events and waits for their commit."""
        return self.log.record(events).result(20)

    def put(self, made: types_pb2.Item, vector: Float32 | None = None) -> None:
        """Tells of an item and waits for its commit."""
        self.log.put_item(made, SPACE, vector).result(20)

    def refresh(self) -> None:
        """Makes charts and newcomers anew."""
        self.crowd.refresh(NOW)

    def __enter__(self) -> "Shop":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.close()
