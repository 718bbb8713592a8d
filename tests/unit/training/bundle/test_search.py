"""The search part of a bundle is read whole or refused with the file and the field named."""

import json
from pathlib import Path

import pytest

from services.domain.search import Bm25f, SearchManifest
from training.bundle.search import SYNONYMS, SearchPartError, read_search


def test_synonyms_are_found_beside_the_file_and_named_as_in_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("tv, television\n")
    path = tmp_path / "search.json"
    path.write_text(json.dumps({"bm25f": {"k1": 1}, "words_weight": 0.7, "synonyms": "same.txt"}))
    manifest, synonyms = read_search(path)
    assert manifest == SearchManifest(Bm25f(k1=1), 0.7, synonyms=SYNONYMS)
    assert synonyms == tmp_path / "same.txt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"search\.json: Expecting property name"),
        ('{"bm25f": {"k1": 99}}', r"search\.json: bm25f\.k1: 99; it must be 0\.01 to 10"),
        ('{"synonyms": "gone.txt"}', r"search\.json: synonyms: .*gone\.txt: No such file"),
        ('{"synonyms": "bad.txt"}', r"bad\.txt: line 1: holds 1"),
        ('{"synonyms": "latin.txt"}', r"latin\.txt: not UTF-8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "search.json"
    path.write_text(text)
    (tmp_path / "bad.txt").write_text("tv\n")
    (tmp_path / "latin.txt").write_bytes("café, tea".encode("latin-1"))
    with pytest.raises(SearchPartError, match=message):
        read_search(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SearchPartError, match=r"none\.json: No such file"):
        read_search(tmp_path / "none.json")


def test_the_example_of_the_docs_is_what_a_bundle_states_by_default(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "search.md").read_text(encoding="utf-8")
    (example,) = (block.partition("```")[0] for block in page.split("```json\n")[1:])
    (tmp_path / "search.json").write_text(example)
    (tmp_path / "synonyms.txt").write_text("tv, television, telly\n")
    manifest, synonyms = read_search(tmp_path / "search.json")
    assert manifest == SearchManifest(synonyms=SYNONYMS)
    assert synonyms == tmp_path / "synonyms.txt"
