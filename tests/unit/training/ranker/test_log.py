"""A log numbers items by seed, orders by time or order, and leaves out what it cannot use."""

from pathlib import Path

import numpy as np

from tests.unit.training.ranker.logs import dataset
from training.ranker.log import read_log


def test_sessions_order_and_numbers(tmp_path: Path) -> None:
    times = ["2026-01-01T10:00:00Z", "2026-01-01T10:29:00Z", "2026-01-01T11:00:00Z"]
    events = [
        {"event_id": f"{n}", "shopper_id": "s", "type": "VIEW", "time": times[n], "item_id": "ab"[n % 2]}
        for n in (2, 0, 1)
    ]
    events.append({"event_id": "q", "shopper_id": "s", "type": "SEARCH", "time": times[0], "query": "lamp"})
    data = dataset(tmp_path / "d", [*"abcdefgh"], events)
    log = read_log(data, data.events(), 1)
    assert [log.item_ids[item] for item in log.item] == ["a", "b", "a"]
    assert log.session.tolist() == [0, 0, 1]
    assert log.has_time
    assert sorted(log.item_ids) == [*"abcdefgh"]
    assert read_log(data, data.events(), 2).item_ids != log.item_ids


def test_without_time_the_order_counts_and_each_event_is_a_session(tmp_path: Path) -> None:
    events = [{"event_id": f"{n}", "shopper_id": "s", "type": "VIEW", "order": n, "item_id": "ab"[n]} for n in (1, 0)]
    data = dataset(tmp_path / "d", ["a", "b"], events)
    log = read_log(data, data.events(), 1)
    assert [log.item_ids[item] for item in log.item] == ["a", "b"]
    assert log.session.tolist() == [0, 1]
    assert not log.has_time
    assert log.gaps(log.time, np.array([9.0])).tolist() == [0, 0]
    assert log.gaps(log.time[None], np.array([[9.0]])).tolist() == [[0, 0]]
