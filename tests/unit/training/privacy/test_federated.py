"""A shard reads nobody else's events, and shards together know more than each alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.privacy.shoppers import CATALOGUE, shop
from training.data.canonical import open_dataset
from training.privacy.datasets import divide
from training.privacy.federated import Shard, compare, federate
from training.privacy.head import Pace, untrained
from training.privacy.interests import read_interests

LOCAL = Pace(5, 1.0, 1.0)
# What comes after A is B, after B is C, after C is A.
SHOPPERS = {f"s{number}": ("ABCABC"[number % 3 :])[:4] for number in range(120)}


def test_everyone_is_in_one_part_with_all_they_did(tmp_path: Path) -> None:
    data = shop(tmp_path / "shop", SHOPPERS)
    parts = [open_dataset(part) for part in divide(data, tmp_path / "parts", 3)]
    people = [set(part.events()["shopper_id"]) for part in parts]
    assert all(people)
    assert sum(map(len, people)) == len(set.union(*people)) == 120
    assert sum(len(part.events()) for part in parts) == len(open_dataset(data).events())
    assert all(set(part.shoppers()["shopper_id"]) == mine for part, mine in zip(parts, people, strict=True))
    assert all(part.items().equals(open_dataset(data).items()) for part in parts)
    with pytest.raises(ValueError, match="parts must be at least 2"):
        divide(data, tmp_path / "one", 1)


def test_a_shard_reads_its_own_directory_alone(tmp_path: Path) -> None:
    mine, *others = divide(shop(tmp_path / "shop", SHOPPERS), tmp_path / "parts", 3)
    first = Shard(mine, CATALOGUE, 0).improve(untrained(3), LOCAL, 0)
    for directory in (*others, tmp_path / "shop"):
        shutil.rmtree(directory)
    alone = Shard(mine, CATALOGUE, 0).improve(untrained(3), LOCAL, 0)
    assert np.array_equal(first.weights, alone.weights)
    assert np.array_equal(first.bias, alone.bias)


def test_shards_learn_from_each_other_what_none_was_told(tmp_path: Path) -> None:
    # One knows what comes after A, the other what comes after B.
    one = shop(tmp_path / "one", {f"a{number}": "AB" for number in range(40)})
    two = shop(tmp_path / "two", {f"b{number}": "BC" for number in range(60)})
    shards = [Shard(directory, CATALOGUE, 0) for directory in (one, two)]
    head = federate(shards, 3, 4.0, 0)
    known = np.eye(3, 3 + 32, dtype=np.float32)[:2]
    assert head.scores(known).argmax(axis=1).tolist() == [1, 2]
    lone = shards[0].improve(untrained(3), Pace(50, 1.0, 4.0), 0)
    assert lone.scores(known).argmax(axis=1).tolist() != [1, 2]


def test_all_are_measured_on_the_same_test(tmp_path: Path) -> None:
    data = shop(tmp_path / "shop", SHOPPERS)
    parts = divide(data, tmp_path / "parts", 2)
    told: list[tuple[int, int]] = []
    found = compare(
        read_interests(data, CATALOGUE), parts, CATALOGUE, 0, lambda done, total: told.append((done, total))
    )
    assert found.central > found.untrained
    assert found.federated == pytest.approx(found.central, abs=0.02)
    assert len(found.shoppers) == 2
    assert told[-1] == (12, 12)
