"""Signals by ids: what is not known says nothing, and nobody's history leaves how often items are met."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.neighbours import Neighbours
from services.domain.signals import SIGNALS, Signals
from services.ranker.signals import ItemSignals
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny

VIEW, SKIP = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_SKIP
# a is followed by b, b by c.
FOLLOWS = Neighbours(np.array([0, 1, 2, 2]), np.array([1, 2]), np.array([0.8, 0.5], np.float32))
SAID = Signals(FOLLOWS, FOLLOWS, FOLLOWS, np.array([1, 2, 3], np.float32), {}, 20, 0.5, repeats=True)
FOLLOWS_AT, OFTEN, LATELY = (SIGNALS.index(name) for name in ("follows", "met_often", "met_lately"))


def test_each_candidate_has_what_its_item_is_told_of() -> None:
    found = ItemSignals(["a", "b", "c"], SAID).of(
        tiny.history(("unheard of", VIEW), ("b", SKIP), ("a", VIEW)), ["c", "new", "b", "a"]
    )
    assert found.shape == (4, len(SIGNALS))
    # a alone was met: what was passed over is none of the history.
    assert found[:, FOLLOWS_AT].tolist() == pytest.approx([0, 0, 0.8, 0])
    assert found[:, OFTEN].tolist() == [3, 0, 2, 1]
    assert found[:, LATELY].tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize("events", [[], [("unheard of", VIEW)], [("a", SKIP)]])
def test_nobodys_history_leaves_how_often_items_are_met(
    events: list[tuple[str, types_pb2.EventType.ValueType]],
) -> None:
    found = ItemSignals(["a", "b", "c"], SAID).of(tiny.history(*events), ["b", "new"])
    assert found[:, OFTEN].tolist() == [2, 0]
    assert np.count_nonzero(found) == 1


def test_a_file_of_other_items_is_named(tmp_path: Path) -> None:
    SAID.write(tmp_path / "signals.npz")
    np.savez(tmp_path / "items.npz", ids=np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"signals\.npz: of 3 items; items\.npz holds 2"):
        ItemSignals.open(tmp_path, "items.npz", "signals.npz")
