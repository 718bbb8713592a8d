"""A bundle's ranker answers as its networks do, for known items, unknown ones and those that nobody can read."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.bundle import EncoderManifest, Manifest, write_bundle
from services.domain.features import FEATURES
from services.domain.text import TextTemplate
from tests.unit.ranker.tiny import DIM, WEIGHTS, item_vectors, ranker_manifest, write_networks
from training.policy.served import Served
from training.ranker.examples import Histories

ENCODER = EncoderManifest(dim=4, max_tokens=16, space_version="a" * 64, scripts=("latin",), template=TextTemplate())


def bundle(path: Path, manifest: Manifest) -> Path:
    (path / "encoder").mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        (path / "encoder" / name).write_text("")
    write_bundle(path, manifest)
    return path


def test_it_says_what_the_networks_say(tmp_path: Path) -> None:
    vectors = item_vectors(2)
    write_networks(tmp_path, vectors, 4)
    served = Served(bundle(tmp_path, Manifest(ENCODER, "", ranker=ranker_manifest())), ["i1", "new", "unread"])
    assert served.max_history == 12
    content = np.array([[1, 0, 0, 0], [0, 3, 4, 0], [0, 0, 0, 0]], np.float32)
    table = served.table(content)
    assert table[0] == pytest.approx(vectors["i1"])
    # By content: the projection takes its first numbers.
    assert table[1] == pytest.approx([0, 0.6, 0.8, *[0] * (DIM - 3)])
    assert np.isnan(table[2]).all()
    of_one = Histories(np.array([[1, 2]]), np.full((1, 2), 2), np.zeros((1, 2), np.int64), np.ones((1, 2), bool))
    # What has no vector is left out; the network gives back the direction of the only other event.
    assert served.shoppers(table, of_one)[0] == pytest.approx(table[1], abs=1e-6)
    features = np.zeros((2, len(FEATURES)), np.float32)
    features[1, FEATURES.index("affinity")] = 1.0
    log_odds = np.array([[-2.0, -3.0, -4.0], [1.0, -1.5, -3.25]])
    assert served.score(features, "HOME") == pytest.approx((1 / (1 + np.exp(-log_odds))) @ np.array(WEIGHTS), abs=1e-5)


def test_a_bundle_without_a_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no ranker; `python -m training bundle --ranker DIR`"):
        Served(bundle(tmp_path / "b", Manifest(ENCODER, "")), [])
