"""Each signal against values worked by hand, and the same after writing and reading."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.domain.neighbours import Neighbours
from services.domain.signals import SIGNALS, Signals
from souk.vectors import Float32

# a is followed by b (0.8), b by c (0.5) and a (0.2), c by nothing.
FOLLOWS = Neighbours(np.array([0, 1, 3, 3]), np.array([1, 2, 0]), np.array([0.8, 0.5, 0.2], np.float32))
# From a over b to c; b is what stands before c and, less often, before a; a before b.
TWO_STEPS = Neighbours(np.array([0, 1, 1, 1]), np.array([2]), np.array([0.4], np.float32))
PRECEDES = Neighbours(np.array([0, 1, 2, 3]), np.array([1, 0, 1]), np.array([0.2, 0.8, 0.5], np.float32))
PLACES = np.array([[1, 0], [0.6, 0.8], [0, 0]], np.float32)


def signals(repeats: bool = True) -> Signals:
    """Of three items, met 0, 1 and 3 times."""
    popularity = np.log([1, 2, 4]).astype(np.float32)
    return Signals(FOLLOWS, TWO_STEPS, PRECEDES, popularity, {"graph": PLACES}, 20, 0.5, repeats)


def of_one(history: list[int]) -> dict[str, Float32]:
    """What is said of the three items by one history."""
    return {name: values[0] for name, values in signals().named([np.array(history)]).items()}


def test_tables_are_read_in_three_ways() -> None:
    found = of_one([0])
    np.testing.assert_allclose(found["follows"], [0, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(found["follows_root"], [0, 0.8**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(found["two_steps_root"], [0, 0, (0.8 * 0.5) ** 0.5], atol=1e-6)
    # a stands after b.
    np.testing.assert_allclose(found["precedes"], [0, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(found["met_often"], np.log([1, 2, 4]), atol=1e-6)


def test_the_newest_counts_most() -> None:
    # b is newest: weight 1 of 1.5, a 0.5 of 1.5.
    np.testing.assert_allclose(of_one([0, 1])["follows"], [0.2 / 1.5, 0.4 / 1.5, 0.5 / 1.5], atol=1e-6)
    np.testing.assert_allclose(of_one([0, 1])["met_lately"], [1.5, 2, 0], atol=1e-6)


def test_cosines_with_what_was_met() -> None:
    found = of_one([0, 1])
    np.testing.assert_allclose(found["graph_newest"], [0.6, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found["graph_nearest"], [1, 1, 0], atol=1e-6)
    # b stands for the three that the history lacks.
    np.testing.assert_allclose(found["graph_mean"], [0.68, 0.92, 0], atol=1e-6)


def test_a_history_says_the_same_alone_and_among_longer_ones() -> None:
    histories = [np.array([1, 0]), np.array([0, 1, 2, 0, 1, 2, 0])]
    together = signals().named(histories)
    for name, values in of_one([1, 0]).items():
        np.testing.assert_allclose(together[name][0], values, atol=1e-6)


def test_having_been_met_says_nothing_where_nothing_is_met_again() -> None:
    assert "met_lately" not in signals(repeats=False).named([np.array([0])])


def test_what_is_said_of_an_item_is_the_same_in_any_company() -> None:
    history = [np.array([0, 2, 1])]
    whole = signals().named(history)
    assert set(whole) < set(SIGNALS)
    for chosen in ([2], [1, 2], [2, 0, 1]):
        for name, values in signals().named(history, np.array(chosen)).items():
            np.testing.assert_allclose(values[0], whole[name][0, chosen], atol=1e-6)
    wide = np.random.default_rng(1).standard_normal((50, 130)).astype(np.float32)
    silent = Neighbours(np.zeros(51, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    many = Signals(silent, silent, silent, np.zeros(50, np.float32), {"content": wide}, 20, 0.5, repeats=False)
    alone = many.named([np.arange(7)], np.array([33]))["content_mean"]
    assert alone[0, 0] == many.named([np.arange(7)], np.arange(50))["content_mean"][0, 33]


def test_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "signals.npz"
    signals().write(file)
    read = Signals.read(file)
    histories = [np.array([0, 2]), np.array([1])]
    for name, values in signals().named(histories).items():
        assert read.named(histories)[name] == pytest.approx(values)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = tmp_path / "signals.npz"
    np.savez(file, popularity=np.zeros(3))
    with pytest.raises(ValueError, match=r"signals\.npz: follows\.starts"):
        Signals.read(file)
    replace(signals(), popularity=np.zeros(4, np.float32)).write(file)
    with pytest.raises(ValueError, match=r"signals\.npz: follows is of 3 items; popularity is of 4"):
        Signals.read(file)
