"""Fine-tunes the dual encoder: queries beside the items that answer them, away from those that do not."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from souk.vectors import Float32
from training.encoder.adapters import adapt
from training.encoder.adversarial import fgm, pgd
from training.encoder.augment import in_another_order, in_another_word, with_typo
from training.encoder.config import ConfigError, TrainConfig
from training.encoder.contrastive import add_gradients, contrastive_loss
from training.encoder.heads import Heads
from training.encoder.loop import Task, gathered, world
from training.encoder.model import Model, autocast, encode, padded, token_states, tokens
from training.encoder.negatives import Guide, Words, hard_negatives, likely_answers
from training.encoder.quick_eval import Exam, best
from training.encoder.shops import Bools, Ints, Query, Shop

# A category needs as many items to be a class.
_MIN_OF_A_CLASS = 5
# The share of items whose category the heads never see, by which they are measured.
_UNSEEN = 0.1
# Texts between two signs of life while negatives are looked for.
_ENCODED = 512


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """How the dual encoder is fine-tuned."""

    chunk: int = 32
    """Texts of one forward pass: what bounds the memory, not what is compared."""
    query_tokens: int = 32
    item_tokens: int = 128
    temperature: float = 0.05
    dims: tuple[int, ...] = ()
    """Matryoshka: vectors cut to each of these are to find as well; the whole size must be among them."""
    held_out: float = 0.1
    """Share of the queries that is not learned, to choose by."""
    evaluate_items: int = 5000
    """The items that held-out queries are looked for among: all that have a grade, then others by seed."""

    negatives: int = 1
    """Hard negatives of each query."""
    negatives_by: tuple[str, ...] = ("words", "model")
    """How they are looked for; with neither, those that were judged irrelevant, then any."""
    negative_depth: int = 50
    """The best of each kind of search that may become negatives."""
    negative_margin: float = 0.05
    """An item nearer to the query than its answer less this (cosine) may be an answer itself and is none."""
    guided: bool = False
    """Items of the batch that the model, as it came, finds so near to a query are not held against it either."""
    mine_every: int = 0
    """Steps after which negatives are looked for again with what was learned; 0: only at the beginning."""
    mine_items: int = 5000
    """The items that negatives are looked for among."""

    adapter: str = "full"
    rank: int = 4
    """Of LoRA and AdaLoRA."""
    width: int = 16
    """Of the bottlenecks."""

    category: float = 0.0
    """Weight of the head that tells an item's category; 0: none."""
    relevance: float = 0.0
    """Weight of the linear head that tells answers from others."""
    decoder: float = 0.0
    """Weight of the decoder head that tells answers from others."""
    pooling: str = "mean"
    """Of the first two heads. The encoder itself is pooled by the mean, always."""

    adversarial: str = "none"
    epsilon: float = 0.5
    """Length of the move of the word embeddings."""
    pgd_steps: int = 3
    pgd_step: float = 0.2
    """Length of each of its moves."""

    typos: float = 0.0
    """Share of the queries that are learned with a slip of the keys."""
    shuffled: float = 0.0
    """Share with two words that changed places."""
    synonyms: float = 0.0
    """Share with a word replaced by a synonym of the shop."""

    shop_temperature: float = 2.0
    """Shops are drawn in proportion to (queries)^(1 / this): 1 as they are, more favours the small."""
    class_balance: float = 0.0
    """Queries are drawn in proportion to (queries of the answer's category)^-this: 1 makes categories equal."""
    tail_balance: float = 0.0
    """Queries are drawn in proportion to (1 + popularity of the answer)^-this."""
    breadth: float = 0.0
    """Queries are drawn in proportion to (number of answers)^this: people ask for "toner" more than for one toner."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "batch": (2, 1_000_000),
        "chunk": (1, 100_000),
        "query_tokens": (4, 512),
        "item_tokens": (4, 512),
        "temperature": (0.001, 1),
        "dims": (8, 4096),
        "held_out": (0.001, 0.9),
        "evaluate_items": (1, 10_000_000),
        "negatives": (0, 64),
        "negative_depth": (1, 1000),
        "negative_margin": (-2, 2),
        "mine_every": (0, 10_000_000),
        "mine_items": (1, 10_000_000),
        "rank": (1, 256),
        "width": (1, 4096),
        "category": (0, 10),
        "relevance": (0, 10),
        "decoder": (0, 10),
        "epsilon": (1e-6, 100),
        "pgd_steps": (1, 20),
        "pgd_step": (1e-6, 100),
        "typos": (0, 1),
        "shuffled": (0, 1),
        "synonyms": (0, 1),
        "shop_temperature": (1, 100),
        "class_balance": (0, 1),
        "tail_balance": (0, 1),
        "breadth": (0, 2),
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "adapter": ("full", "lora", "adalora", "bottleneck"),
        "pooling": ("mean", "attention"),
        "adversarial": ("none", "fgm", "pgd"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for one in self.negatives_by:
            if one not in ("words", "model"):
                raise ConfigError(f"negatives_by: must be of words, model, not {one!r}")


@dataclass(frozen=True)
class Example:
    """A query as it is typed this time, and rows of items: the answer, then hard negatives."""

    shop: int
    query: Query
    typed: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class _Compared:
    """What an example is compared by: the query's grades, its rows, and the guide's vectors of query and rows."""

    grades: dict[int, float]
    rows: tuple[int, ...]
    query: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    items: Float32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class Finetune(Task):
    """Learns from several shops at once, each batch of one of them; takes the model over and changes it."""

    chosen = "ndcg@10"

    def __init__(
        self, model: Model, shops: Sequence[Shop], config: FinetuneConfig, synonyms: Mapping[str, Sequence[str]]
    ) -> None:
        if config.dims and max(config.dims) != model.dim:
            raise ConfigError(f"dims: the largest must be the model's {model.dim}, not {max(config.dims)}")
        if config.batch % world():
            raise ConfigError(f"batch: must be a multiple of the {world()} processes, not {config.batch}")
        if config.synonyms and not synonyms:
            raise ConfigError("synonyms: needs a file of synonyms, --synonyms")
        self._model, self._shops, self._config, self._synonyms = model, list(shops), config, synonyms
        # Before adapters change it, and the weights of a checkpoint.
        self._guide = Guide(model, config.query_tokens, config.item_tokens, config.precision) if config.guided else None
        # The layers drawn here (adapters, heads) follow from the seed, too.
        torch.manual_seed(config.seed)
        self.adapter = adapt(model.module.model, config.adapter, config.rank, config.width, config.steps)
        model.module.model = self.adapter.model
        self._labels, classes = _labels(shops, config.seed)
        self.heads = Heads(model.dim, classes, config.pooling, config.category, config.relevance, config.decoder).to(
            model.device
        )
        self.module = torch.nn.ModuleDict({"encoder": model.module, "heads": self.heads}).to(model.device)
        self._exams = [Exam.of(shop, shop.held, config.evaluate_items, config.seed) for shop in shops]
        self._pools: list[list[list[int]]] = [[[] for _ in shop.learn] for shop in shops]
        sizes = np.array([len(shop.learn) for shop in shops]) ** (1 / config.shop_temperature)
        self._shares = sizes / sizes.sum()
        self._odds = [_odds(shop, config) for shop in shops]

    def identity(self) -> str:
        """Model, shops and synonyms."""
        digest = hashlib.sha256("".join(shop.identity() for shop in self._shops).encode())
        digest.update(repr(sorted((word, list(others)) for word, others in self._synonyms.items())).encode())
        digest.update(self._model.tokenizer.to_str().encode())
        return digest.hexdigest()

    def trainable_share(self) -> float:
        """Share of the encoder's parameters that are trained."""
        sizes = [(p.numel(), p.requires_grad) for p in self._model.module.parameters()]
        return sum(size for size, trained in sizes if trained) / sum(size for size, _ in sizes)

    def finished(self) -> Model:
        """The encoder with what was learned, its adapter merged where it can be."""
        self._model.module.model = self.adapter.merged()
        return self._model

    def draw(self, rng: np.random.Generator) -> list[Example]:
        """A batch of one shop."""
        number = int(rng.choice(len(self._shops), p=self._shares))
        shop = self._shops[number]
        size = min(self._config.batch, len(shop.learn)) // world() * world()
        chosen = rng.choice(len(shop.learn), size, replace=False, p=self._odds[number])
        return [self._example(number, int(one), rng) for one in chosen]

    def _example(self, number: int, chosen: int, rng: np.random.Generator) -> Example:
        config, shop = self._config, self._shops[number]
        query = shop.learn[chosen]
        gains = np.array([query.grades[row] for row in query.relevant])
        positive = int(rng.choice(query.relevant, p=gains / gains.sum()))
        pool = self._pools[number][chosen]
        negatives = rng.permutation(pool)[: config.negatives].tolist() if config.negatives else []
        # Where too few look like an answer, any that is none: all examples have as many.
        while len(negatives) < config.negatives:
            row = int(rng.integers(len(shop.texts)))
            if query.grades.get(row, 0) == 0 or len(query.relevant) == len(shop.texts):
                negatives.append(row)
        typed = query.text
        if rng.random() < config.synonyms:
            typed = in_another_word(typed, self._synonyms, rng)
        if rng.random() < config.shuffled:
            typed = in_another_order(typed, rng)
        if rng.random() < config.typos:
            typed = with_typo(typed, rng)
        return Example(number, query, typed, (positive, *negatives))

    def learn(self, examples: Sequence[Example], share: float, precision: str) -> dict[str, float]:
        """Gradients of the contrastive loss, of the heads, and of both where the embeddings are at their worst."""
        config, device = self._config, self._model.device
        shop = self._shops[examples[0].shop]
        items = [one.rows[place] for place in range(1 + config.negatives) for one in examples]
        texts = [one.typed for one in examples] + [shop.texts[row] for row in items]
        ids = self._tokens(texts, len(examples))
        # In order of length a chunk has little padding; `place` finds each text's vector again.
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        place = np.argsort(order)
        everyone = gathered(self._compared(examples, shop))
        loss = self._loss(everyone, len(ids), torch.from_numpy(place).to(device))

        def forward(numbers: Sequence[int]) -> Tensor:
            with autocast(device, precision):
                parts = _alike([ids[order[number]] for number in numbers])
                return torch.cat([self._model.module(*padded(part, device))[0] for part in parts])

        def add() -> float:
            found = add_gradients(forward, loss, len(ids), config.chunk, share)
            extra = self._extra(examples, ids, precision)
            if extra is not None:
                (extra * share).backward()  # type: ignore[no-untyped-call]
            return found

        if config.adversarial == "none":
            return {"loss": add()}
        embeddings = self._model.module.model.get_input_embeddings().weight
        trained = embeddings.requires_grad
        # With an adapter they stay as they are, but their gradient shows where to go.
        embeddings.requires_grad_(True)
        told = {"loss": add()}
        if config.adversarial == "fgm":
            fgm(embeddings, config.epsilon, lambda: told.update(adversarial_loss=add()))
        else:
            last = lambda: told.update(adversarial_loss=add())  # noqa: E731
            pgd(self.module, embeddings, config.epsilon, config.pgd_steps, config.pgd_step, last)
        if not trained:
            embeddings.requires_grad_(False)
            embeddings.grad = None
        return told

    def _tokens(self, texts: Sequence[str], queries: int) -> list[list[int]]:
        config = self._config
        return [
            *tokens(self._model, texts[:queries], config.query_tokens),
            *tokens(self._model, texts[queries:], config.item_tokens),
        ]

    def _compared(self, examples: Sequence[Example], shop: Shop) -> list[_Compared]:
        if self._guide is None:
            return [_Compared(one.query.grades, one.rows) for one in examples]
        # As asked, not as typed this time: a slip of the keys changes no answer.
        queries = self._guide.queries([one.query.text for one in examples])
        items = self._guide.items([shop.texts[row] for one in examples for row in one.rows])
        return [
            _Compared(one.query.grades, one.rows, query, own)
            for one, query, own in zip(examples, queries, np.split(items, len(examples)), strict=True)
        ]

    def _loss(self, everyone: list[_Compared], texts: int, place: Tensor) -> Any:
        """The contrastive loss as a function of the vectors of all processes, each in its order of length."""
        config, device = self._config, self._model.device
        per_process = len(everyone) // world()
        places = gathered([place.tolist()]) if world() > 1 else [place.tolist()]
        lines = [[number * texts + one for one in own] for number, own in enumerate(places)]
        queries = [line for own in lines for line in own[:per_process]]
        # First the answers of all processes, in the order of their queries, then the negatives.
        parts = range(1, 2 + config.negatives)
        items = [line for part in parts for own in lines for line in own[part * per_process : (part + 1) * per_process]]
        rows = [one.rows[part - 1] for part in parts for one in everyone]
        seen = np.array([one.items[part - 1] for part in parts for one in everyone]) if config.guided else None
        allowed = np.ones((len(everyone), len(rows)), bool)
        for number, one in enumerate(everyone):
            allowed[number] = [one.grades.get(row, 0) == 0 and row != one.rows[0] for row in rows]
            if seen is not None:
                judged = np.array([row in one.grades for row in rows])
                allowed[number] &= judged | ~likely_answers(one.query, seen, number, config.negative_margin)
            allowed[number, number] = True
        weights = torch.tensor([one.grades[one.rows[0]] for one in everyone], device=device)
        mask = torch.from_numpy(allowed).to(device)

        def loss(vectors: Tensor) -> Tensor:
            return contrastive_loss(vectors[queries], vectors[items], mask, weights, config.temperature, config.dims)

        return loss

    def _extra(self, examples: Sequence[Example], ids: list[list[int]], precision: str) -> Tensor | None:
        """The loss of the heads on one chunk, and what the adapter adds."""
        penalty = self.adapter.penalty()
        if not self.heads.used():
            return penalty
        device, count = self._model.device, min(len(examples), self._config.chunk)
        chosen = examples[:count]
        with autocast(device, precision):
            queries = self._states(ids[:count])
            items = self._states(ids[len(examples) : len(examples) + count])
            labels = [self._labels[one.shop].shown(one.rows[0]) for one in chosen]
            others = [(number + 1) % count for number in range(count)]
            strange = [
                one.query.grades.get(chosen[other].rows[0], 0) == 0 for one, other in zip(chosen, others, strict=True)
            ]
            loss = self.heads.loss(
                queries,
                items,
                torch.tensor(labels, device=device),
                torch.tensor(others, device=device),
                torch.tensor(strange, device=device, dtype=torch.float32),
            )
        return loss if penalty is None else loss + penalty

    def _states(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token states (b, l, dim) and their mask."""
        return token_states(self._model, ids)

    def before_step(self, step: int) -> None:
        """Looks for hard negatives at the beginning and every `mine_every` steps."""
        every = self._config.mine_every
        if self._config.negatives and (step == 0 or (every and step % every == 0)):
            self._pools = [self._mined(shop) for shop in self._shops]

    def after_step(self, step: int) -> None:
        """Tells the adapter."""
        self.adapter.after_step(step)

    def _mined(self, shop: Shop) -> list[list[int]]:
        """For each query to learn rows of hard negatives, those that people found irrelevant first."""
        config = self._config
        judged = [[row for row, grade in query.grades.items() if grade == 0] for query in shop.learn]
        if not config.negatives_by:
            return judged
        rows = _searched(shop, config.mine_items, config.seed)
        texts = [shop.texts[row] for row in rows.tolist()]
        asked = [one.text for one in shop.learn]
        vectors = []
        total = len(texts) + len(asked)
        for begin, part, limit in (
            *((i, texts[i : i + _ENCODED], config.item_tokens) for i in range(0, len(texts), _ENCODED)),
            *((len(texts) + i, asked[i : i + _ENCODED], config.query_tokens) for i in range(0, len(asked), _ENCODED)),
        ):
            self.working(f"negatives, {shop.name}", begin, total)
            vectors.append(encode(self._model, part, limit, config.precision))
        self.working(f"negatives, {shop.name}", total, total)
        items, queries = np.split(np.concatenate(vectors), [len(texts)])
        words = Words(texts) if "words" in config.negatives_by else None
        place = {int(row): number for number, row in enumerate(rows)}
        pools = []
        for query, vector, wrong in zip(shop.learn, queries, judged, strict=True):
            moved = replace(query, grades={place[row]: grade for row, grade in query.grades.items()})
            found: list[Ints] = [np.zeros(0, np.int64)]
            if words is not None:
                found.append(words.best(query.text, config.negative_depth))
            if "model" in config.negatives_by:
                found.append(best(items @ vector, config.negative_depth))
            near = hard_negatives(
                moved, vector, items, np.unique(np.concatenate(found)), config.negative_margin, config.negative_depth
            )
            pools.append(list(dict.fromkeys([*wrong, *rows[near].tolist()])))
        return pools

    def evaluate(self) -> dict[str, float]:
        """nDCG@10 and recall@10 of the held-out queries, the mean over the shops, and of the heads what they tell."""
        config = self._config
        metrics: dict[str, float] = {}
        found = [
            exam.take(self._model, config.query_tokens, config.item_tokens, config.precision, config.dims)
            for exam in self._exams
        ]
        for name in found[0]:
            metrics[name] = float(np.mean([one[name] for one in found if name in one]))
        if len(self._shops) > 1:
            for shop, one in zip(self._shops, found, strict=True):
                metrics |= {f"{name} {shop.name}": value for name, value in one.items()}
        return metrics | self._tell_heads()

    def _tell_heads(self) -> dict[str, float]:
        """Accuracy of the category on items whose category was never shown, and how often the answer of a held-out
        query scores above the answer of another."""
        self.module.eval()
        right: dict[str, list[bool]] = {}
        with torch.inference_mode():
            for shop, labels in zip(self._shops, self._labels, strict=True):
                if self.heads.category is not None:
                    for rows in self._chunks(np.flatnonzero(labels.unseen).tolist()):
                        said = self.heads.category(*self._read(shop, rows)).argmax(dim=1).cpu().numpy()
                        right.setdefault("category_accuracy", []).extend(said == labels.of[rows])
                for name in ("relevance", "decoder"):
                    if (head := getattr(self.heads, name)) is not None:
                        right.setdefault(f"{name}_accuracy", []).extend(self._told_apart(head, shop))
        return {name: float(np.mean(values)) for name, values in right.items() if values}

    def _told_apart(self, head: torch.nn.Module, shop: Shop) -> list[bool]:
        answers = [max(query.grades, key=lambda row: query.grades[row]) for query in shop.held]
        asked = [
            (query, own, other)
            for query, own, other in zip(shop.held, answers, answers[1:] + answers[:1], strict=True)
            if query.grades.get(other, 0) == 0
        ]
        right: list[bool] = []
        for part in self._chunks(asked):
            queries = self._states(tokens(self._model, [one[0].text for one in part], self._config.query_tokens))
            own, other = (head(*queries, *self._read(shop, [one[i] for one in part])) for i in (1, 2))
            right.extend((own > other).tolist())
        return right

    def _read(self, shop: Shop, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        texts = [shop.texts[row] for row in rows]
        return self._states(tokens(self._model, texts, self._config.item_tokens))

    def _chunks(self, values: Sequence[Any]) -> list[Any]:
        size = self._config.chunk
        return [values[begin : begin + size] for begin in range(0, len(values), size)]

    def state(self) -> dict[str, Any]:
        """The negatives that were found, and what the adapter keeps."""
        return {"pools": self._pools, "adapter": self.adapter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._pools = state["pools"]
        self.adapter.restore(state["adapter"])


def _alike(ids: Sequence[list[int]]) -> list[list[list[int]]]:
    """Texts in order of length, parted where the longest is more than twice the first: padding costs time."""
    parts: list[list[list[int]]] = []
    for one in ids:
        if not parts or len(one) > 2 * len(parts[-1][0]):
            parts.append([])
        parts[-1].append(one)
    return parts


@dataclass(frozen=True)
class _Labels:
    """The class of each item of a shop, -1 for none, and which of those that have one no head learns from."""

    of: Ints
    unseen: Bools

    def shown(self, row: int) -> int:
        """The class to learn, -1 for none."""
        return -1 if self.unseen[row] else int(self.of[row])


def _labels(shops: Sequence[Shop], seed: int) -> tuple[list[_Labels], list[str]]:
    """The labels of each shop over the classes of all, and the names of the classes."""
    counts = Counter(category for shop in shops for category in shop.categories if category)
    names = sorted(category for category, count in counts.items() if count >= _MIN_OF_A_CLASS)
    number = {name: i for i, name in enumerate(names)}
    labels = []
    for shop in shops:
        of = np.array([number.get(category, -1) for category in shop.categories])
        unseen = np.random.default_rng(seed).random(len(of)) < _UNSEEN
        labels.append(_Labels(of, unseen & (of >= 0)))
    return labels, names


def _odds(shop: Shop, config: FinetuneConfig) -> NDArray[np.float64]:
    """The probability of each query to learn, by category and popularity of its best answer and number of answers."""
    answers = [max(query.grades, key=lambda row: query.grades[row]) for query in shop.learn]
    classes = Counter(shop.categories[row] for row in answers)
    odds = np.array([classes[shop.categories[row]] ** -config.class_balance for row in answers], np.float64)
    odds *= (1 + shop.popularity[answers].astype(np.float64)) ** -config.tail_balance
    odds *= np.array([len(query.relevant) for query in shop.learn], np.float64) ** config.breadth
    found: NDArray[np.float64] = odds / odds.sum()
    return found


def _searched(shop: Shop, most: int, seed: int) -> Ints:
    """Rows that negatives are looked for among: all that have a grade for a query to learn, then others by seed."""
    graded = np.unique([row for query in shop.learn for row in query.grades])
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(shop.texts)), graded))
    return np.concatenate([graded, others[: max(0, most - len(graded))]])
