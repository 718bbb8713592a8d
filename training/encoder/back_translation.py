"""Queries said in other words: into another language and back, by translation models of the shop's choice."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from services.domain.words import fold
from training.encoder.config import ConfigError
from training.encoder.pairs import MAX_QUERY_CHARACTERS, Pair

SOURCE = "synthetic:back-translation"
# Texts to texts, one for each.
Translate = Callable[[list[str]], list[str]]
_AT_ONCE = 32
_MOST_TOKENS = 64


class Translator:
    """A sequence-to-sequence model in a Hugging Face directory, run greedily."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "config.json").is_file():
            raise ConfigError(f"{directory / 'config.json'}: missing; a translation model's directory holds it")
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model = AutoModelForSeq2SeqLM.from_pretrained(directory, local_files_only=True).eval()

    def __call__(self, texts: list[str]) -> list[str]:
        """The translation of each text."""
        read = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=_MOST_TOKENS)
        given = {name: read[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            said = self._model.generate(**given, max_new_tokens=_MOST_TOKENS, num_beams=1, do_sample=False)
        found: list[str] = self._tokenizer.batch_decode(said, skip_special_tokens=True)
        return found


def there_and_back(there: Path, back: Path) -> Translate:
    """A round trip through two models. Raises ConfigError where one is not there."""
    first, second = Translator(there), Translator(back)
    return lambda texts: second(first(texts))


def function(name: str) -> Translate:
    """The function "package.module:name", which makes the whole round trip. Raises ConfigError where there is none."""
    module, _, attribute = name.partition(":")
    try:
        found: Translate = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"--by: {name!r} names no function ({error}); write package.module:function") from None
    return found


def back_translated(pairs: Sequence[Pair], translate: Translate, progress: Callable[[int, int], None]) -> list[Pair]:
    """The pairs with their queries in other words, with the same items and grades; those that came back as they were,
    empty or too long are left out."""
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    said: dict[str, str] = {}
    for begin in range(0, len(queries), _AT_ONCE):
        part = queries[begin : begin + _AT_ONCE]
        answers = translate(part)
        if len(answers) != len(part):
            raise ConfigError(f"the translation of {len(part)} texts gave {len(answers)}")
        said.update(zip(part, (" ".join(answer.split()) for answer in answers), strict=True))
        progress(begin + len(part), len(queries))
    return [
        Pair(said[pair.query], pair.item_id, pair.grade, SOURCE)
        for pair in pairs
        if 0 < len(said[pair.query]) <= MAX_QUERY_CHARACTERS and fold(said[pair.query]) != fold(pair.query)
    ]
