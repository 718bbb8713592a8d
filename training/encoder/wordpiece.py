"""Trains a tokenizer on a shop's own text: WordPiece as BERT has it, Chinese by characters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from training.encoder.config import Config, ConfigError
from training.encoder.model import save_tokenizer
from training.encoder.scripts import common_characters

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """What the vocabulary is made of."""

    language: str = "en"
    size: int = 16_000
    """Pieces, at most."""
    min_count: int = 2
    """How often a piece must be there."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"size": (200, 200_000), "min_count": (1, 1_000_000)}
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"language": ("en", "zh")}

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = len(self.alphabet()) + 200
        if self.size < needed:
            raise ConfigError(f"size: {self.language} needs at least {needed}, not {self.size}")

    def alphabet(self) -> list[str]:
        """Characters that are pieces whether the texts hold them or not."""
        ascii_ = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
        return ascii_ + (list(common_characters("han")) if self.language == "zh" else [])


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """WordPiece (Wu et al. 2016) over the texts, lower case and without accents.

    Every Chinese character is a word of its own, as in BERT; those in common use are known whatever the texts hold, so
    that the encoder counts as one that reads Chinese. Raises ConfigError where there is no text.
    """
    if not texts:
        raise ConfigError("texts: none to learn from")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    alphabet = config.alphabet()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.size,
        min_frequency=config.min_count,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        limit_alphabet=max(1000, 2 * len(alphabet)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Writes tokenizer.json and its config into the new directory `out`. Raises FileExistsError."""
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    out.mkdir(parents=True)
    save_tokenizer(tokenizer, out)


def read_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer in a directory, without padding or truncation. Raises ConfigError where there is none."""
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"{file}: missing; `python -m training encoder tokenizer` writes it")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
