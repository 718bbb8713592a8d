"""Assembling a bundle: whole or not at all."""

from pathlib import Path

import pytest

from services.domain.bundle import ColdstartManifest, RankerManifest, read_bundle
from services.domain.text import TextTemplate
from training.bundle.bundle import AssembleError, assemble
from training.coldstart.card import BLEND, TOPICS, ColdstartCard
from training.coldstart.card import CARD as COLDSTART_CARD
from training.encoder.card import CARD, MODEL, TOKENIZER, Card
from training.ranker.card import CARD as RANKER_CARD
from training.ranker.card import HEADS, ITEMS, PROJECTION, SHOPPER, RankerCard


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    path = tmp_path / "encoder"
    path.mkdir()
    (path / MODEL).write_bytes(b"model")
    (path / TOKENIZER).write_text("{}")
    Card(384, 256, "ab" * 32, ("latin",), TextTemplate(query_prefix="q: "), "fp32", {"encoder.parity": 1.0}).write(
        path / CARD
    )
    return path


def test_a_bundle_reads_back(encoder: Path, tmp_path: Path) -> None:
    made = assemble(encoder, tmp_path / "out" / "bundle")
    assert made == read_bundle(tmp_path / "out" / "bundle")
    assert made.manifest.encoder.template.query_prefix == "q: "
    assert made.manifest.encoder.scripts == ("latin",)
    assert made.manifest.metrics == {"encoder.parity": 1.0}
    assert (made.path / made.manifest.encoder.model).read_bytes() == b"model"
    assert [file.name for file in made.path.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, CARD])
def test_a_missing_file_is_named_and_nothing_is_left(encoder: Path, tmp_path: Path, name: str) -> None:
    (encoder / name).unlink()
    with pytest.raises(AssembleError, match=name):
        assemble(encoder, tmp_path / "bundle")
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


def test_a_bundle_is_never_overwritten(encoder: Path, tmp_path: Path) -> None:
    first = assemble(encoder, tmp_path / "bundle")
    with pytest.raises(AssembleError, match="exists already"):
        assemble(encoder, tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle") == first


def test_a_card_that_is_none_is_named(encoder: Path, tmp_path: Path) -> None:
    (encoder / CARD).write_text("[]")
    with pytest.raises(AssembleError, match="not an encoder's card"):
        assemble(encoder, tmp_path / "bundle")


def trained(tmp_path: Path, content: str = "ab" * 32) -> tuple[Path, Path]:
    ranker, coldstart = tmp_path / "ranker", tmp_path / "coldstart"
    ranker.mkdir()
    coldstart.mkdir()
    for name in (SHOPPER, HEADS, ITEMS, PROJECTION):
        (ranker / name).write_bytes(name.encode())
    manifest = RankerManifest(64, 50, "r1", content, ("affinity",), {"HOME": (1.0, 1.0, 1.0)})
    RankerCard(manifest, {"ranker.ndcg": 0.3}).write(ranker / RANKER_CARD)
    (coldstart / TOPICS).write_bytes(b"topics")
    (coldstart / BLEND).write_bytes(b"blend")
    told = ColdstartManifest("t1", content, ("Shoes",), blend=f"coldstart/{BLEND}")
    ColdstartCard(told, {"coldstart.nmi": 0.8}).write(coldstart / COLDSTART_CARD)
    return ranker, coldstart


def test_everything_is_sealed_with_its_metrics(encoder: Path, tmp_path: Path) -> None:
    ranker, coldstart = trained(tmp_path)
    made = assemble(encoder, tmp_path / "bundle", ranker, coldstart)
    assert made == read_bundle(tmp_path / "bundle")
    assert made.manifest.metrics == {"encoder.parity": 1.0, "ranker.ndcg": 0.3, "coldstart.nmi": 0.8}
    assert made.manifest.ranker is not None
    assert (made.path / made.manifest.ranker.heads_model).read_bytes() == HEADS.encode()
    assert made.manifest.coldstart is not None
    assert (made.path / made.manifest.coldstart.topics).read_bytes() == b"topics"
    assert made.manifest.coldstart.blend is not None
    assert (made.path / made.manifest.coldstart.blend).read_bytes() == b"blend"


def test_another_ranker_keeps_the_encoder_of_a_bundle(encoder: Path, tmp_path: Path) -> None:
    ranker, coldstart = trained(tmp_path)
    first = assemble(encoder, tmp_path / "first", ranker, coldstart)
    second = assemble(first.path, tmp_path / "second", ranker)
    assert second.manifest.encoder == first.manifest.encoder
    assert second.manifest.coldstart is None
    assert second.manifest.metrics == {"encoder.parity": 1.0, "ranker.ndcg": 0.3}


def test_parts_of_another_content_space_are_refused_by_name(encoder: Path, tmp_path: Path) -> None:
    ranker, coldstart = trained(tmp_path, content="cd" * 32)
    for parts in ((ranker, None), (None, coldstart)):
        with pytest.raises(AssembleError, match="trained on content space cdcdcdcdcdcd, but the encoder makes abab"):
            assemble(encoder, tmp_path / "bundle", *parts)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", [HEADS, RANKER_CARD])
def test_a_ranker_without_a_file_is_refused(encoder: Path, tmp_path: Path, name: str) -> None:
    ranker, _ = trained(tmp_path)
    (ranker / name).unlink()
    with pytest.raises(AssembleError, match=name):
        assemble(encoder, tmp_path / "bundle", ranker)
    assert not list(tmp_path.glob(".bundle*"))


def test_how_searches_are_scored_changes_no_space(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("tv, television\n")
    search = tmp_path / "search.json"
    search.write_text('{"words_weight": 0.7, "synonyms": "same.txt"}')
    plain, made = assemble(encoder, tmp_path / "plain"), assemble(encoder, tmp_path / "scored", search=search)
    assert made == read_bundle(tmp_path / "scored")
    assert made.manifest.search is not None
    assert made.manifest.search.words_weight == 0.7
    assert (made.path / made.manifest.search.synonyms).read_text() == "tv, television\n"
    assert made.generation != plain.generation
    assert made.manifest.encoder == plain.manifest.encoder


def test_a_search_part_that_makes_no_sense_is_refused_and_nothing_is_left(encoder: Path, tmp_path: Path) -> None:
    search = tmp_path / "search.json"
    search.write_text('{"words_weight": 7}')
    with pytest.raises(AssembleError, match=r"search\.json: words_weight: 7; it must be 0 to 1"):
        assemble(encoder, tmp_path / "bundle", search=search)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder", "search.json"]
