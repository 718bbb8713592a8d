"""A tokenizer of a shop's own text knows its words, and Chinese by characters."""

from pathlib import Path

import pytest

from training.encoder.config import ConfigError
from training.encoder.scripts import covered_scripts
from training.encoder.wordpiece import TokenizerConfig, read_tokenizer, train_tokenizer, write_tokenizer

ENGLISH = ["waterproof jacket", "waterproof trousers", "Jäckets of wool"] * 20
CHINESE = ["防水外套 XL", "蓝牙耳机 wh-1000xm4", "防水裤子"] * 20


def test_words_of_the_shop_are_pieces(tmp_path: Path) -> None:
    made = train_tokenizer(ENGLISH, TokenizerConfig(size=400))
    write_tokenizer(made, tmp_path / "words")
    again = read_tokenizer(tmp_path / "words")
    assert again.encode("Waterproof Jacket").tokens == ["[CLS]", "waterproof", "jacket", "[SEP]"]
    assert again.encode("jäckets").tokens[1:-1] == ["jackets"]
    with pytest.raises(FileExistsError, match="exists already"):
        write_tokenizer(made, tmp_path / "words")


def test_chinese_is_cut_by_characters_and_counts_as_read() -> None:
    made = train_tokenizer(CHINESE, TokenizerConfig(language="zh", size=5000))
    assert made.encode("防水外套").tokens[1:-1] == ["防", "水", "外", "套"]
    assert "[UNK]" not in made.encode("从未见过的常用字").tokens
    assert "han" in covered_scripts(made)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"language": "fr"}, "language: must be one of en, zh, not 'fr'"),
        ({"language": "zh", "size": 3000}, "size: zh needs at least 4023, not 3000"),
        ({"min_count": 0}, r"min_count: must be from 1 to 1e\+06, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TokenizerConfig.read(None, **given)


def test_no_text_and_no_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="texts: none"):
        train_tokenizer([], TokenizerConfig())
    with pytest.raises(
        ConfigError, match=r"tokenizer\.json: missing; `python -m training encoder tokenizer` writes it"
    ):
        read_tokenizer(tmp_path)
