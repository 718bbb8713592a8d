"""Who stands out by their attributes, and what would hide them."""

import json
from pathlib import Path

import pytest

from training.data.canonical import DatasetWriter, Info
from training.privacy.anonymity import check, read_attributes

CROWD = [{"age": "30", "town": "A", "ill": str(n)} for n in range(3)]
ALONE = [{"age": "90", "town": "A", "ill": "0"}]


def test_a_crowd_hides_and_one_alone_does_not() -> None:
    assert check(CROWD, ["age", "town"], 3).at_risk == 0
    found = check(CROWD + ALONE, ["age", "town"], 3)
    assert (found.at_risk, found.smallest, found.groups) == (1, 1, 2)
    assert (found.ways[0].what, found.ways[0].at_risk) == ("leave out age", 0)


def test_rare_values_together_may_be_enough() -> None:
    old = [{"age": age, "town": "A"} for age in ("70", "80", "90")]
    ways = {way.what: way.at_risk for way in check(CROWD + old, ["age", "town"], 3).ways}
    assert ways == {"leave out age": 0, "age: one value for its 3 rare ones": 0, "leave out town": 3}


def test_a_group_of_one_mind_tells_what_is_sensitive() -> None:
    assert check(CROWD, ["age"], 3, "ill").least_diverse == 3
    assert check([{**one, "ill": "0"} for one in CROWD], ["age"], 3, "ill").least_diverse == 1


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 2, not 1"):
        check(CROWD, ["age"], 1)
    with pytest.raises(ValueError, match="no shopper has the attribute hat; there are age, ill, town"):
        check(CROWD, ["hat"], 2)
    with pytest.raises(ValueError, match="age cannot be both"):
        check(CROWD, ["age"], 2, "age")


def test_who_is_known_by_events_or_impressions_alone_counts(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "shop", Info("toy", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "A", "title": "kettle"}])
        writer.write("shoppers", [{"shopper_id": "anna", "attributes": '{"town": ["Bonn"]}'}])
        view = {"type": "VIEW", "time": "2026-02-20T00:00:00Z", "item_id": "A"}
        who = ("anna", "bert", "bert")
        writer.write("events", [{**view, "event_id": str(n), "shopper_id": one} for n, one in enumerate(who)])
        shown = {"request_id": "r", "item_id": "A", "position": 0, "propensity": 1.0, "time": view["time"]}
        writer.write("impressions", [{**shown, "shopper_id": "carl"}])
    assert read_attributes(tmp_path / "shop") == [{"town": "Bonn"}, {}, {}]


def test_a_value_with_a_comma_is_not_two_values(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "shop", Info("toy", "1", "made up", "CC0-1.0")) as writer:
        likes = [["tea, cake"], ["tea", "cake"], ["cake", "tea"]]
        told = [json.dumps({"likes": values}) for values in likes]
        writer.write("items", [{"item_id": "A", "title": "a thing"}])
        writer.write("shoppers", [{"shopper_id": str(n), "attributes": text} for n, text in enumerate(told)])
    found = check(read_attributes(tmp_path / "shop"), ["likes"], 2)
    assert (found.groups, found.at_risk) == (2, 1)
