"""A generation's topics and behaviour vectors are the formulas of its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.coldstart.knowledge import Knowledge
from services.domain.bundle import (
    Bundle,
    ColdstartManifest,
    EncoderManifest,
    Manifest,
    RankerManifest,
)
from services.domain.text import TextTemplate
from tests.unit.coldstart.making import knowledge, towards


def bundle(path: Path, dim: int = 6, topics: int = 3, behaviour: int = 4, labels: int = 3) -> Bundle:
    """Not sealed: the arrays and the manifest that tells of them."""
    random = np.random.default_rng(0)
    (path / "coldstart").mkdir()
    (path / "ranker").mkdir()
    np.savez(path / "coldstart/topics.npz", W=random.normal(size=(topics, dim)), b=random.normal(size=topics))
    np.savez(path / "ranker/projection.npz", W=random.normal(size=(dim, behaviour)), b=random.normal(size=behaviour))
    vectors = random.normal(size=(2, behaviour)).astype(np.float32)
    np.savez(path / "ranker/items.npz", ids=np.array(["a", "bé"]), vectors=vectors)
    encoder = EncoderManifest(dim, 32, "content-1", ("latin",), TextTemplate())
    ranker = RankerManifest(behaviour, 50, "behaviour-1", "content-1", (), {})
    coldstart = ColdstartManifest("topics-1", "content-1", tuple(f"topic {n}" for n in range(labels)))
    return Bundle(path, "g" * 64, Manifest(encoder, "", ranker=ranker, coldstart=coldstart))


def test_topics_are_the_softmax_of_the_content(tmp_path: Path) -> None:
    read = Knowledge.of(bundle(tmp_path))
    assert read.topics is not None
    content = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    with np.load(tmp_path / "coldstart/topics.npz") as arrays:
        powers = np.exp(content @ arrays["W"].T + arrays["b"])
    assert read.topics.of(content) == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-6)
    assert np.isfinite(read.topics.of(1e4 * content)).all()


def test_a_known_item_has_its_own_vector_and_another_one_a_guess(tmp_path: Path) -> None:
    read = Knowledge.of(bundle(tmp_path)).behaviour
    assert read is not None
    with np.load(tmp_path / "ranker/items.npz") as arrays:
        assert read.of("bé", None) == pytest.approx(arrays["vectors"][1])
    content = np.ones(6, np.float32)
    with np.load(tmp_path / "ranker/projection.npz") as arrays:
        guess = content @ arrays["W"] + arrays["b"]
    assert read.of("new", content) == pytest.approx(guess / np.linalg.norm(guess), abs=1e-6)
    assert read.of("new", None) is None


def test_a_bundle_of_search_alone_has_neither(tmp_path: Path) -> None:
    whole = bundle(tmp_path)
    alone = replace(whole, manifest=replace(whole.manifest, ranker=None, coldstart=None))
    read = Knowledge.of(alone)
    assert (read.topics, read.behaviour, read.content_dim) == (None, None, 6)


@pytest.mark.parametrize(
    ("fields", "file"), [({"labels": 4}, "topics.npz"), ({"topics": 2}, "topics.npz")], ids=["labels", "topics"]
)
def test_arrays_that_do_not_fit_the_manifest_are_refused(tmp_path: Path, fields: dict[str, int], file: str) -> None:
    with pytest.raises(ValueError, match=file):
        Knowledge.of(bundle(tmp_path, **fields))


def test_a_projection_of_another_content_space_is_refused(tmp_path: Path) -> None:
    whole = bundle(tmp_path)
    np.savez(tmp_path / "ranker/projection.npz", W=np.ones((7, 4)), b=np.ones(4))
    with pytest.raises(ValueError, match=r"projection\.npz"):
        Knowledge.of(whole)


def test_without_a_projection_an_unknown_item_has_no_vector(tmp_path: Path) -> None:
    whole = bundle(tmp_path)
    assert whole.manifest.ranker is not None
    alone = replace(whole.manifest.ranker, content_space_version=None, projection=None)
    read = Knowledge.of(replace(whole, manifest=replace(whole.manifest, ranker=alone))).behaviour
    assert read is not None
    assert read.of("a", None) is not None
    assert read.of("new", np.ones(6, np.float32)) is None


def test_the_shared_generation_says_what_its_content_says() -> None:
    topics = knowledge().topics
    assert topics is not None
    assert [topics.of(towards(n)[None])[0].argmax() for n in range(3)] == [0, 1, 2]


def test_what_is_about_other_items_lies_in_their_middle(tmp_path: Path) -> None:
    read = Knowledge.of(bundle(tmp_path)).behaviour
    assert read is not None
    one, two = read.vectors[0], read.of("unheard of", np.ones(6, np.float32))
    known = next(iter(read.rows))
    assert two is not None
    middle = (one + two) / 2
    found = read.of("campaign", np.zeros(6, np.float32), {known: None, "unheard of": np.ones(6, np.float32)})
    assert found == pytest.approx(middle / np.linalg.norm(middle), abs=1e-6)
    # What nobody knows of leaves the campaign's own words.
    alone = read.of("campaign", np.ones(6, np.float32), {"gone": None})
    assert alone == pytest.approx(read.of("unheard of", np.ones(6, np.float32)))
