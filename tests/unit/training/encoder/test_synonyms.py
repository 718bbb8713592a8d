"""Words that keep like company and are near for the encoder are the same; values of one attribute never are."""

from pathlib import Path

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from tests.unit.training.encoder import tiny
from training.encoder import synonyms as synonyms_module
from training.encoder.config import ConfigError
from training.encoder.model import Model
from training.encoder.synonyms import SynonymsConfig, mine_synonyms, read_synonyms, write_synonyms

NEAR = (("couch", "sofa"), ("white", "blue"), ("lamp", "lamps"), ("wood", "table"), ("singlepack", "multipack"))


def items() -> list[types_pb2.Item]:
    """Sofas are called couches as often, in the same company; a table is of wood each time."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(200):
        seat, colour = ("sofa", "couch")[number % 2], ("white", "blue")[int(rng.integers(2))]
        if number % 4 < 2:
            title = f"{colour} {seat} with soft cushion for the living room"
        else:
            title = (
                f"{colour} {('lamp', 'lamps')[number % 2]} beside wood table {('singlepack', 'multipack')[number % 2]}"
            )
        item = types_pb2.Item(id=str(number), title=title)
        item.attributes.add(name="colour", values=[colour])
        found.append(item)
    return found


def near(model: Model, words: list[str], max_tokens: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """As an encoder that knows which words are alike: random weights do not."""
    vectors = np.random.default_rng(0).standard_normal((len(words), 64)).astype(np.float32)
    for one, other in NEAR:
        if one in words and other in words:
            vectors[words.index(one)] = vectors[words.index(other)]
    found: np.ndarray[tuple[int, int], np.dtype[np.float32]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def test_the_same_thing_by_another_name_is_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synonyms_module, "encode", near)
    # Colours are values of one attribute, lamps a plural, packs siblings; wood and table are said together.
    assert [set(group) for group in mine_synonyms(items(), tiny.model(), SynonymsConfig())] == [{"couch", "sofa"}]


def test_an_encoder_that_finds_nothing_alike_finds_no_synonyms() -> None:
    assert mine_synonyms(items(), tiny.model(), SynonymsConfig(nearness=1.0)) == []


def test_what_is_written_is_read_as_the_bundle_reads_it(tmp_path: Path) -> None:
    write_synonyms(tmp_path / "words.txt", [("sofa", "couch", "settee"), ("手机", "移动电话")])
    assert read_synonyms(tmp_path / "words.txt") == {
        "sofa": ["couch", "settee"],
        "couch": ["sofa", "settee"],
        "settee": ["sofa", "couch"],
        "手机": ["移动电话"],
        "移动电话": ["手机"],
    }
    (tmp_path / "words.txt").write_text("sofa\n")
    with pytest.raises(ValueError, match=r"words\.txt: line 1"):
        read_synonyms(tmp_path / "words.txt")


def test_settings_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="nearness: must be from 0 to 1, not 2"):
        SynonymsConfig(nearness=2.0)
