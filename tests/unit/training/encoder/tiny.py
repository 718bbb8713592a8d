"""A tiny BERT and tiny shops for tests of the encoder's training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from training.data.canonical import DatasetWriter, Info
from training.encoder.export import SentenceEncoder
from training.encoder.model import Model, save
from training.encoder.pairs import Pair, write_pairs

KINDS = ("kettle", "toaster", "hammer", "ladder", "scarf", "jacket", "novel", "atlas")
COLOURS = ("red", "blue", "green", "black", "white")
# What shoppers say for each kind: other words than the titles hold, so that there is something to learn.
SAID = ("boiler", "browner", "striker", "steps", "wrap", "coat", "story", "maps")
BRANDS = ("acme", "bolt", "crown", "delta")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer() -> Tokenizer:
    """Knows the words of the tiny shops as whole words, others letter by letter."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*KINDS, *COLOURS, *SAID, *BRANDS, "for", "the", "kitchen", "good"]
    pieces = dict.fromkeys([*SPECIAL, *words, *letters, *("##" + letter for letter in letters)])
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def model(seed: int = 1, dropout: float = 0.0, heads: int = 2) -> Model:
    """A BERT of two layers of 32 with random weights; 32 tokens."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer().get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=heads,
        intermediate_size=64, max_position_embeddings=32, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return Model(SentenceEncoder(BertModel(config, add_pooling_layer=False)), tokenizer(), 32)


def write_model(out: Path, seed: int = 1, dropout: float = 0.0) -> Path:
    """The tiny BERT as a directory."""
    save(model(seed, dropout), out, {})
    return out


def write_shop(out: Path, name: str = "toy", items: int = 80, seed: int = 0, judged: int = 0) -> Path:
    """A dataset whose items are "colour kind", of brands, in a category each, a few of them popular; a kind asked for
    by what shoppers call it is the query of so many judgements."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(items):
        kind, colour = number % len(KINDS), int(rng.integers(len(COLOURS)))
        rows.append(
            {
                "item_id": f"{name}-{number}",
                "title": f"{COLOURS[colour]} {KINDS[kind]}",
                "brand": BRANDS[int(rng.integers(len(BRANDS)))],
                "category": f"things > {KINDS[kind]}",
                "popularity": float(items - number),
            }
        )
    with DatasetWriter(out, Info(name, "1", "here", "none")) as writer:
        writer.write("items", rows)
        if judged:
            grades = [{"query": SAID[i % len(SAID)], "item_id": f"{name}-{i}", "grade": 3} for i in range(judged)]
            writer.write("judgements", grades)
    return out


def pairs_of(name: str = "toy", items: int = 80, seed: int = 0) -> list[Pair]:
    """For every item a query in words that its title does not hold."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(items):
        colour = COLOURS[int(rng.integers(len(COLOURS)))]
        brand = BRANDS[int(rng.integers(len(BRANDS)))]
        found.append(Pair(f"{colour} {SAID[number % len(SAID)]} {brand}", f"{name}-{number}", 3.0, "synthetic:title"))
    return found


def write_toy_pairs(path: Path, name: str = "toy", items: int = 80, seed: int = 0) -> Path:
    """`pairs_of` as a file."""
    write_pairs(path, pairs_of(name, items, seed))
    return path
