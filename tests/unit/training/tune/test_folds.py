"""Folds: the same everywhere and for ever, named by hashes."""

import csv
import json
from pathlib import Path

import pytest

from training.data.cli import real_data
from training.tune import folds
from training.tune.folds import FOLDS, fold_of, query_key

PUBLISHED = Path(folds.__file__).with_name("chorus_icecat.json")


def test_a_fold_follows_from_the_words_alone() -> None:
    assert query_key("Red  Mug") == query_key(" red mug") == "028a54da21c1691a"
    assert fold_of("red mug") == int("028a54da21c1691a", 16) % FOLDS
    assert query_key("red mugs") != query_key("red mug")


def test_folds_are_of_like_size() -> None:
    sizes = [0] * FOLDS
    for number in range(1000):
        sizes[fold_of(f"query {number}")] += 1
    assert min(sizes) > 150
    assert max(sizes) < 250


def test_the_published_folds_are_those_that_tuning_uses() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert len(published) == 116
    assert all(fold == int(key, 16) % FOLDS for key, fold in published.items())
    assert min(list(published.values()).count(fold) for fold in range(FOLDS)) >= 15


def test_the_published_folds_are_of_chorus_icecat() -> None:
    root = real_data()
    if root is None or not (root / "chorus_icecat").is_dir():
        pytest.skip("needs the folder chorus_icecat under SOUK_DATA")
    ratings = root / "chorus_icecat" / "Broad_Query_Set_rated.csv"
    with ratings.open(newline="") as lines:
        relevant = {row["query"] for row in csv.DictReader(lines) if int(row["rating"])}
    assert {query_key(query): fold_of(query) for query in relevant} == json.loads(PUBLISHED.read_text())
