"""Answers keep the places that were looked at, in order of time, with the history of that moment."""

from pathlib import Path
from typing import Any

import pytest

from training.data.canonical import Dataset, DatasetWriter, Info, open_dataset
from training.ranker.answers import Answers, read_answers
from training.ranker.log import Log, read_log


def moment(minute: int) -> str:
    return f"2026-01-01T10:{minute:02d}:00Z"


@pytest.fixture
def read(tmp_path: Path) -> tuple[Log, Answers]:
    def shown(request: str, minute: int, clicked: int | None, **more: Any) -> list[dict[str, Any]]:
        return [
            {
                "request_id": request,
                "item_id": f"i{position}",
                "position": position,
                "propensity": 1.0,
                "shopper_id": "s",
                "time": moment(minute),
                "scene": "SEARCH",
                "query": "lamp",
                "stock": position if position != 3 else None,
                "clicked": position == clicked,
                "purchased": position == clicked,
                **more,
            }
            for position in reversed(range(12))
        ]

    with DatasetWriter(tmp_path / "d", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": f"i{n}"} for n in range(12)])
        events = [
            {"event_id": f"e{n}", "shopper_id": "s", "type": "VIEW", "time": moment(10 * n), "item_id": "i1"}
            for n in range(3)
        ]
        writer.write("events", events)
        rows = [*shown("b", 15, None), *shown("a", 5, 4), *shown("c", 20, 0, shopper_id="unheard of")]
        writer.write("impressions", [*rows, *shown("d", 16, 11)])
    data: Dataset = open_dataset(tmp_path / "d")
    log = read_log(data, data.events(), 3)
    return log, read_answers(data, log)


def test_what_was_looked_at_and_what_was_known(read: tuple[Log, Answers]) -> None:
    log, answers = read
    assert len(answers) == 3
    assert answers.end.tolist() == [1, 2, 2]
    assert answers.starts.tolist() == [0, 12, 24, 36]
    assert answers.looked_at.tolist() == [*[True] * 8, *[False] * 4, *[True] * 4, *[False] * 8, *[True] * 12]
    first = [log.item_ids[item] for item in answers.items[:12]]
    assert first == [f"i{n}" for n in range(12)]
    assert answers.position[:12].tolist() == list(range(12))
    assert answers.labels[:12].sum(axis=0).tolist() == [1, 1, 1]
    assert answers.labels[4].tolist() == [1, 1, 1]
    assert answers.stock[:5] == pytest.approx([0, 1, 2, float("nan"), 4], nan_ok=True)
    assert answers.until(answers.time[1]).stock.tolist()[4:] == list(range(4, 12))
    assert answers.query == ["lamp"] * 3
    assert set(answers.scene.tolist()) == {1}


def test_a_dataset_without_impressions_has_none(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": "a"}])
        event = {"event_id": "e", "shopper_id": "s", "type": "VIEW", "time": moment(0), "item_id": "a"}
        writer.write("events", [event])
    data = open_dataset(tmp_path / "d")
    assert len(read_answers(data, read_log(data, data.events(), 3))) == 0
