"""What is read is what stands there, under numbers that say nothing; what is wrong is named with its line."""

from pathlib import Path

import numpy as np
import pytest

from training.ranker.sequences.files import (
    FileError,
    attributes_of,
    read_attributes,
    read_items,
    read_sequences,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file"
    path.write_text(text)
    return path


def named(path: Path, seed: int) -> set[tuple[str, ...]]:
    read = read_sequences(path, seed)
    parts = np.split(read.item, read.starts[1:-1])
    return {tuple(read.item_ids[item] for item in part) for part in parts}


def test_sequences_are_read_whatever_the_numbering(tmp_path: Path) -> None:
    path = written(tmp_path, "a x y z\nb\tz y x w\n")
    assert named(path, 1) == named(path, 2) == {("x", "y", "z"), ("z", "y", "x", "w")}
    orders = {tuple(read_sequences(path, seed).item_ids) for seed in range(20)}
    assert len(orders) > 5


def test_what_may_be_learned_stops_before_the_last_two(tmp_path: Path) -> None:
    read = read_sequences(written(tmp_path, "a x y z\nb z y x w\n"), 1)
    assert read.before(2).sum() == 3
    assert read.before(1).sum() == 5
    assert not read.repeats()
    # Met again only in what must not be looked at.
    assert not read_sequences(written(tmp_path, "a x y x\nb z y x w\n"), 1).repeats()
    assert read_sequences(written(tmp_path, "a x x y x\nb z y x w\n"), 1).repeats()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a x y z\n\nb x y z\n", "line 2: is empty"),
        ("a x y z\nb x y\n", "line 2: shopper b has 2 items; the limit is 3"),
        ("a x y z\na x y z\n", "line 2: shopper a stands in an earlier line"),
        (f"a x y {'z' * 129}\n", "line 1: an id of more than 128"),
        ("a x y z\n", "holds 1 shoppers; the limit is 2"),
        ("a x y z\nb x y z\n", "no shopper has more than 3 items"),
    ],
)
def test_bad_sequences_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        read_sequences(written(tmp_path, text), 1)


def test_items_are_read_with_what_is_there(tmp_path: Path) -> None:
    text = 'asin_like,title,brand,price,categories\n7,"Red, round",Acme,4.0,Home|Mugs\n8,Blue,,,\n'
    items = read_items(written(tmp_path, text))
    assert items["7"].title == "Red, round"
    assert list(items["7"].category_path) == ["Home", "Mugs"]
    assert attributes_of(items["7"]) == ["brand Acme", "category Home", "category Home>Mugs", "price 5"]
    assert attributes_of(items["8"]) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,name\n1,x\n", "line 1: no column title"),
        ("id,title\n1,x,y\n", "line 2: must have 2 fields"),
        ("id,title\n1,x\n1,y\n", "line 3, id: 1 stands in an earlier line"),
        ("id,title,price\n1,x,cheap\n", "line 2, price: 'cheap' is no number"),
        ("id,title\n,x\n", "line 2, id: must have 1 to 128"),
    ],
)
def test_bad_items_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        read_items(written(tmp_path, text))


def test_attributes_are_numbers_or_strings(tmp_path: Path) -> None:
    assert read_attributes(written(tmp_path, '{"1": [3, "red"]}')) == {"1": ["3", "red"]}
    for text, problem in (("[1]", "must be an object"), ('{"1": 3}', "item 1: must be a list"), ("{", "not JSON")):
        with pytest.raises(FileError, match=problem):
            read_attributes(written(tmp_path, text))
