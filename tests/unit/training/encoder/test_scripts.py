"""Scripts are listed only where the vocabulary reads them in words or characters of their own."""

from tokenizers import Tokenizer, models, pre_tokenizers

from training.encoder.export import default_model
from training.encoder.scripts import _ALPHABETS, _CHARACTERS, covered_scripts


def of(*pieces: str) -> Tokenizer:
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(("[UNK]", *pieces)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def words(letters: str) -> list[str]:
    return [a + b + c for a in letters[:10] for b in letters[:10] for c in letters[:10]]


def test_the_default_encoder_reads_latin_only() -> None:
    assert covered_scripts(Tokenizer.from_file(str(default_model() / "tokenizer.json"))) == ("latin",)


def test_the_common_characters_are_the_national_standards() -> None:
    assert len(_CHARACTERS["han"]) == 3755
    assert len(_CHARACTERS["hangul"]) == 2350
    assert _CHARACTERS["han"].startswith("啊阿埃挨")


def test_han_needs_nine_in_ten_of_the_common_characters() -> None:
    common = _CHARACTERS["han"]
    assert covered_scripts(of(*common[: len(common) * 91 // 100])) == ("han",)
    assert covered_scripts(of(*common[: len(common) * 89 // 100])) == ()


def test_letters_alone_do_not_make_a_script_readable() -> None:
    letters = _ALPHABETS["cyrillic"]
    assert covered_scripts(of(*letters)) == ()
    assert covered_scripts(of(*letters, *words(letters))) == ("cyrillic",)
