"""Content vectors are those of the encoder, computed once, and nobody's where it cannot read."""

import time
from pathlib import Path

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from training.content import Encoder

ITEMS = [
    types_pb2.Item(id="1", title="red running shoes"),
    types_pb2.Item(id="2", title="无线蓝牙耳机"),
    types_pb2.Item(id="3", title="running sneakers in red", description="For the road. " * 20),
    types_pb2.Item(id="4"),
    types_pb2.Item(id="5", title="table lamp"),
]


def test_vectors_are_kept_and_scaled(bundle: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    encoder = Encoder.open(bundle)
    vectors = encoder.items(ITEMS, tmp_path, lambda done, total: told.append((done, total)))
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 0, 1, 0, 1], abs=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[4] + 0.2
    assert told[-1] == (3, 3)
    told.clear()
    again = encoder.items(ITEMS[::-1], tmp_path, lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(again[::-1], vectors)
    assert told == [(0, 0)]


def test_no_more_than_there_is_time_for(bundle: Path, tmp_path: Path) -> None:
    vectors = Encoder.open(bundle).items(ITEMS, tmp_path, lambda done, total: None, until=time.monotonic())
    assert not vectors.any()
