"""Pre-trains a BERT on a shop's own text, without any query: to fill gaps, to tell what follows, to say it again."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import BertConfig, BertModel

from training.encoder.card import ExportError
from training.encoder.config import ConfigError, TrainConfig
from training.encoder.export import SentenceEncoder
from training.encoder.loop import LossTask
from training.encoder.model import Model, padded
from training.encoder.words import Words

# Cross entropy leaves these out.
_NOT_ASKED = -100
_SENTENCE = re.compile(r"(?<=[.!?;。！？；])\s*")
_EVALUATED_AT_ONCE = 64
_MOST_EVALUATED = 512


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """How a BERT is pre-trained."""

    learning_rate: float = 1e-4
    objective: str = "mlm"
    tokens: int = 128
    """Of a text that are read."""
    masked: float = 0.15
    """Share of the tokens to be guessed by mlm and by retromae's encoder."""
    deleted: float = 0.6
    """Share of the tokens that tsdae leaves out of what the encoder reads."""
    decoder_masked: float = 0.5
    """Share of the tokens that retromae's decoder does not see."""
    held_out: float = 0.02
    """Share of the texts that is not learned."""

    layers: int = 4
    """This and the next three: the BERT from scratch."""
    hidden: int = 256
    heads: int = 4
    intermediate: int = 1024
    max_tokens: int = 128
    """What the encoder reads at most in serving."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "tokens": (8, 512),
        "masked": (0.01, 0.9),
        "deleted": (0.01, 0.95),
        "decoder_masked": (0.01, 0.95),
        "held_out": (0.0001, 0.5),
        "layers": (1, 48),
        "hidden": (8, 4096),
        "heads": (1, 64),
        "intermediate": (8, 16384),
        "max_tokens": (8, 512),
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"objective": ("mlm", "mlm+nsp", "tsdae", "retromae")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden % self.heads:
            raise ConfigError(f"heads: must divide hidden, {self.hidden}, not {self.heads}")


def from_scratch(tokenizer: Tokenizer, config: PretrainConfig) -> Model:
    """A BERT of the config's sizes with random weights by its seed, for this tokenizer."""
    torch.manual_seed(config.seed)
    sizes = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        max_position_embeddings=max(config.tokens, config.max_tokens),
    )
    return Model(SentenceEncoder(BertModel(sizes, add_pooling_layer=False)), tokenizer, config.max_tokens)


def read_texts(files: Sequence[Path]) -> list[str]:
    """The lines of plain text files that are not empty. Raises ValueError where a file is not UTF-8 text."""
    found = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
        found += [line.strip() for line in lines if line.strip()]
    return found


@dataclass(frozen=True)
class Example:
    """Token ids that the encoder reads, segments, and what is to be guessed.

    `wanted` holds the id to be guessed at each place of `read`, -100 where none is; `whole` the text as it was.
    `follows` is 1 where the second segment is what followed the first (next-sentence prediction).
    """

    read: list[int]
    segments: list[int]
    wanted: list[int]
    whole: list[int]
    follows: int


class Pretrain(LossTask):
    """Learns from texts; takes the model, and the head that guesses words where there is one, over and changes them."""

    chosen = "accuracy"

    def __init__(self, model: Model, texts: Sequence[str], config: PretrainConfig, words: Words | None = None) -> None:
        self._model, self._config = model, config
        if config.tokens > model.module.model.config.max_position_embeddings:
            raise ConfigError(
                f"tokens: at most the model's {model.module.model.config.max_position_embeddings}, not {config.tokens}"
            )
        self._cls, self._sep, self._mask = (_special(model.tokenizer, name) for name in ("[CLS]", "[SEP]", "[MASK]"))
        self._documents = self._tokenised(texts)
        if len(self._documents) < 10:
            raise ConfigError(f"texts: {len(self._documents)} to learn from; 10 are needed")
        order = np.random.default_rng(config.seed).permutation(len(self._documents))
        held = max(1, min(round(len(order) * config.held_out), _MOST_EVALUATED))
        self._held, self._learn = order[:held].tolist(), order[held:].tolist()
        torch.manual_seed(config.seed)
        bert = model.module.model
        self._words = words or Words(bert)
        parts = {"encoder": model.module, "words": self._words}
        if config.objective == "mlm+nsp":
            parts["follows"] = torch.nn.Linear(model.dim, 2)
        elif config.objective in ("tsdae", "retromae"):
            parts["decoder"] = _Decoder(model.dim) if config.objective == "tsdae" else _EnhancedDecoder(model.dim)
        self.module = self._parts = torch.nn.ModuleDict(parts).to(model.device)

    def _tokenised(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Of each text its sentences as ids without special tokens; one sentence but for next-sentence prediction."""
        split = self._config.objective == "mlm+nsp"
        sentences = [[one for one in _SENTENCE.split(text) if one] if split else [text] for text in texts]
        flat = [one for document in sentences for one in document]
        encoded = iter(self._model.tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        documents = [[next(encoded).ids for _ in document] for document in sentences]
        kept = [[one for one in document if one] for document in documents]
        return [document for document in kept if len(document) > split]

    def identity(self) -> str:
        """Texts and vocabulary."""
        digest = hashlib.sha256(self._model.tokenizer.to_str().encode())
        for document in self._documents:
            digest.update(repr(document).encode())
        return digest.hexdigest()

    def finished(self) -> Model:
        """The encoder with what was learned."""
        return self._model

    def files(self) -> dict[str, bytes]:
        """What is kept beside the encoder: the head that guesses words, which tsdae's decoder alone has learned."""
        return {} if self._config.objective == "tsdae" else self._words.files()

    def draw(self, rng: np.random.Generator) -> list[Example]:
        """Texts with what is to be guessed of them."""
        return [
            self._example(self._learn[number], rng)
            for number in rng.integers(len(self._learn), size=self._config.batch)
        ]

    def _example(self, number: int, rng: np.random.Generator) -> Example:
        config, document = self._config, self._documents[number]
        if config.objective == "mlm+nsp":
            return self._two_sentences(document, rng)
        room = config.tokens - 2
        ids = document[0]
        # A window somewhere, so that the ends of long texts are read, too.
        begin = int(rng.integers(len(ids) - room + 1)) if len(ids) > room else 0
        whole = [self._cls, *ids[begin : begin + room], self._sep]
        if config.objective == "tsdae":
            kept = [one for one in whole[1:-1] if rng.random() >= config.deleted]
            read = [self._cls, *(kept or whole[1:2]), self._sep]
            return Example(read, [0] * len(read), [], whole, 0)
        read, wanted = self._with_gaps(whole, rng)
        return Example(read, [0] * len(read), wanted, whole, 0)

    def _two_sentences(self, document: list[list[int]], rng: np.random.Generator) -> Example:
        """Half of them follow each other; the others are of two texts (Devlin et al. 2019, section 3.1)."""
        at = int(rng.integers(len(document) - 1))
        follows = int(rng.random() < 0.5)
        other = document if follows else self._documents[self._learn[int(rng.integers(len(self._learn)))]]
        second = document[at + 1] if follows else other[int(rng.integers(len(other)))]
        room = (self._config.tokens - 3) // 2
        a, b = document[at][:room], second[:room]
        whole = [self._cls, *a, self._sep, *b, self._sep]
        read, wanted = self._with_gaps(whole, rng)
        return Example(read, [0] * (len(a) + 2) + [1] * (len(b) + 1), wanted, whole, follows)

    def _with_gaps(self, whole: list[int], rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Of the chosen tokens 80% are masked, 10% another, 10% stay (Devlin et al. 2019); at least one is chosen."""
        read, wanted = list(whole), [_NOT_ASKED] * len(whole)
        open_to = [place for place, one in enumerate(whole) if one not in (self._cls, self._sep)]
        chosen = rng.permutation(open_to)[: max(1, round(len(open_to) * self._config.masked))]
        for place in chosen.tolist():
            wanted[place] = whole[place]
            luck = rng.random()
            if luck < 0.8:
                read[place] = self._mask
            elif luck < 0.9:
                read[place] = int(rng.integers(self._model.tokenizer.get_vocab_size()))
        return read, wanted

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross entropy of what is guessed; of several tasks the sum."""
        loss, right = self._judge(examples)
        return loss, {"accuracy": float(right.float().mean())}

    def _judge(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """The loss, and of every token that was to be guessed whether it was."""
        config, device = self._config, self._model.device
        read, mask = padded([one.read for one in examples], device)
        segments, _ = padded([one.segments for one in examples], device)
        bert = self._model.module.model
        states = bert(input_ids=read, attention_mask=mask, token_type_ids=segments).last_hidden_state
        losses, right = [], torch.zeros(0, dtype=torch.bool, device=device)
        if config.objective != "tsdae":
            wanted, _ = padded([one.wanted for one in examples], device, _NOT_ASKED)
            loss, right = self._guessed(states[wanted != _NOT_ASKED], wanted[wanted != _NOT_ASKED])
            losses.append(loss)
        if config.objective == "mlm+nsp":
            follows = torch.tensor([one.follows for one in examples], device=device)
            losses.append(F.cross_entropy(self._parts["follows"](states[:, 0]).float(), follows))
        if config.objective in ("tsdae", "retromae"):
            weights = mask[..., None].to(states.dtype)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
            whole, whole_mask = padded([one.whole for one in examples], device)
            # Each token but the first is said again from the one vector.
            said = self._parts["decoder"](pooled, bert.embeddings(input_ids=whole), whole_mask, config.decoder_masked)
            asked = whole_mask[:, 1:] == 1
            loss, right = self._guessed(said[asked], whole[:, 1:][asked])
            losses.append(loss)
        return torch.stack(losses).sum(), right

    def _guessed(self, states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._words(states, self._model.module.model.get_input_embeddings().weight).float()
        return F.cross_entropy(logits, wanted), logits.argmax(dim=1) == wanted

    def evaluate(self) -> dict[str, float]:
        """Share of the tokens guessed right in the held-out texts, the same gaps each time, and the loss."""
        self.module.eval()
        rng = np.random.default_rng(self._config.seed)
        losses, right = [], []
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(self._config.seed)
            for begin in range(0, len(self._held), _EVALUATED_AT_ONCE):
                examples = [self._example(number, rng) for number in self._held[begin : begin + _EVALUATED_AT_ONCE]]
                loss, hits = self._judge(examples)
                losses.append(float(loss))
                right.append(hits.float().cpu())
        return {"accuracy": float(torch.cat(right).mean()), "loss": float(np.mean(losses))}


def _special(tokenizer: Tokenizer, name: str) -> int:
    found: int | None = tokenizer.token_to_id(name)
    if found is None:
        raise ExportError(f"the tokenizer has no {name}")
    return found


class _Decoder(torch.nn.Module):
    """Says the text again, token by token, from its vector alone (TSDAE: Wang et al. 2021)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = torch.nn.TransformerDecoderLayer(dim, max(1, dim // 64), 2 * dim, batch_first=True)

    def forward(self, vector: Tensor, embedded: Tensor, mask: Tensor, masked: float) -> Tensor:
        """States for the tokens from the second on, (b, l - 1, dim); `masked` is not used: the past is seen."""
        length = embedded.shape[1] - 1
        later = torch.ones(length, length, dtype=torch.bool, device=embedded.device).triu(1)
        padding = mask[:, :-1] == 0
        said: Tensor = self.layer(embedded[:, :-1], vector[:, None], tgt_mask=later, tgt_key_padding_mask=padding)
        return said


class _EnhancedDecoder(torch.nn.Module):
    """Says each token again from the text's vector and a sample of the others (RetroMAE: Xiao et al. 2022, 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(dim, max(1, dim // 64), batch_first=True)
        self.places = torch.nn.Embedding(512, dim)
        self.first, self.second = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.feed = torch.nn.Sequential(torch.nn.Linear(dim, 2 * dim), torch.nn.GELU(), torch.nn.Linear(2 * dim, dim))

    def forward(self, vector: Tensor, embedded: Tensor, mask: Tensor, masked: float) -> Tensor:
        """States for the tokens from the second on, (b, l - 1, dim)."""
        rows, length, _ = embedded.shape
        asked = vector[:, None] + self.places.weight[1:length]
        # The vector stands in the first place, where every token sees it; none sees itself.
        seen = torch.cat([vector[:, None], embedded[:, 1:]], dim=1)
        hidden = torch.rand(rows, length - 1, length, device=embedded.device) < masked
        hidden |= torch.eye(length, dtype=torch.bool, device=embedded.device)[1:] | (mask[:, None] == 0)
        hidden[:, :, 0] = False
        heads = self.attention.num_heads
        found, _ = self.attention(asked, seen, seen, attn_mask=hidden.repeat_interleave(heads, 0), need_weights=False)
        states = self.first(asked + found)
        said: Tensor = self.second(states + self.feed(states))
        return said
