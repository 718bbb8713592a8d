"""From a file of sequences to a directory with a ranker, judged as it will serve, beside popularity and item-kNN."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.domain.neighbours import Neighbours
from services.domain.signals import said
from souk.vectors import Float32
from training.new_directory import new_directory
from training.ranker.log import Ints
from training.ranker.neighbours import find_neighbours
from training.ranker.sequences.blend import Moments, fit_weights
from training.ranker.sequences.config import SequencesConfig
from training.ranker.sequences.export import Served, prove, write, write_ranker, write_report
from training.ranker.sequences.files import Sequences
from training.ranker.sequences.follows import find_follows
from training.ranker.sequences.graph import directions
from training.ranker.sequences.judging import Scores, measures, ranks_of
from training.ranker.sequences.model import Facts
from training.ranker.sequences.signals import NETWORK, make_signals, unit_rows
from training.ranker.sequences.texts import Texts
from training.ranker.sequences.train import Epoch, Training, choosers, keep_freed_memory

TABLE_TRIALS = ((20, 0.85), (20, 0.7), (20, 0.6), (10, 0.5))
"""Items of the history and the weight of each against the one after it."""
_PARTNERS = 100
_FEWEST_ITEMS = 3


@dataclass(frozen=True)
class Report:
    """What came of it; `to_json` is what `--json` prints."""

    test: dict[str, float]
    validation: dict[str, float]
    baselines: dict[str, dict[str, dict[str, float]]]
    seconds: float
    about: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Measures by name; seconds of the whole run, with those before an interruption of the training."""
        values = asdict(self)
        about: dict[str, Any] = values.pop("about")
        return values | about


def bags_of(item_ids: Sequence[str], attributes: Mapping[str, Sequence[str]] | None) -> Tensor | None:
    """Sparse float32 (items, attributes), rows of length 1 or empty; an attribute of fewer than 3 items is left out.
    None where nothing is left."""
    if attributes is None:
        return None
    counts = Counter(one for item in item_ids for one in set(attributes.get(item, ())))
    columns = {one: column for column, one in enumerate(sorted(o for o, k in counts.items() if k >= _FEWEST_ITEMS))}
    if not columns:
        return None
    rows: list[int] = []
    cells: list[int] = []
    values: list[float] = []
    for row, item in enumerate(item_ids):
        own = sorted(columns[one] for one in set(attributes.get(item, ())) if one in columns)
        rows += [row] * len(own)
        cells += own
        values += [max(len(own), 1) ** -0.5] * len(own)
    found: Tensor = torch.sparse_coo_tensor(
        torch.tensor([rows, cells]),
        torch.tensor(values),
        (len(item_ids), len(columns)),
        dtype=torch.float32,
        check_invariants=True,
    ).coalesce()
    return found


def fit(
    sequences: Sequences,
    texts: Texts | None,
    attributes: Mapping[str, Sequence[str]] | None,
    config: SequencesConfig,
    out: Path,
    checkpoint: Path,
    told: Callable[[str], None],
    epoch_told: Callable[[Epoch], None],
) -> Report:
    """Trains, chooses by the validation, writes the new directory `out`, and tests once what was written.

    `texts`: of the items of the sequences, in their order; `attributes`: names of what is true of an item, by id.

    Raises GateError, FileExistsError; then nothing is left at `out`.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    keep_freed_memory()
    started = time.monotonic()
    learned, masked = sequences.before(2), not sequences.repeats()
    everybody = np.arange(sequences.shoppers)
    some = choosers(sequences, config)
    n = len(sequences.item_ids)

    def judged(back: int, scores: Scores, shoppers: Ints = everybody) -> dict[str, float]:
        return measures(ranks_of(sequences, back, shoppers, scores, masked))

    def best(table: Neighbours) -> tuple[int, float]:
        tried = {trial: judged(2, _by(table, *trial), some)["ndcg@10"] for trial in TABLE_TRIALS}
        return max(tried, key=lambda trial: tried[trial])

    told("item-kNN")
    neighbours = find_neighbours(sequences.owner[learned], sequences.item[learned], n, _PARTNERS)
    follows = find_follows(sequences.owner[learned], sequences.item[learned], n)
    trial = best(follows)
    counts = np.bincount(sequences.item[learned], minlength=n)
    baselines: dict[str, Scores] = {
        "popularity": lambda histories: np.repeat(counts[None].astype(np.float32), len(histories), axis=0),
        "item-knn": _by(neighbours, *best(neighbours)),
        "follows": _by(follows, *trial),
    }
    graph = directions(follows, config.graph, config.seed)
    # The network learns from one of the two: what items met together teach beside what they are is learned by heart
    # (measured). Beside it, both are signals.
    known = graph if texts is None else texts.vectors
    facts = Facts(torch.from_numpy(known), bags_of(sequences.item_ids, attributes))
    vectors = {"graph": graph} | ({} if texts is None else {"content": unit_rows(texts.vectors)})
    signals = make_signals(follows, counts, vectors, trial, not masked)
    training = Training(sequences, facts, config, checkpoint, epoch_told)
    before = training.spent
    model = training.run()
    told("ONNX and its gates")
    with new_directory(out) as draft:
        scale = write(model, sequences.item_ids, signals, draft)
        proved = prove(model, scale, draft)
        write_report(draft, model, scale, {NETWORK: 1.0}, {})
        told("weights of the signals beside the network")
        weights, bias = fit_weights(Moments.of(sequences, some, Served.open(draft).products, signals, masked))
        write_report(draft, model, scale, weights, {})
        told("test")
        served = Served.open(draft)
        validation, test = judged(2, served.scores), judged(1, served.scores)
        report = Report(
            test,
            validation,
            {name: {"test": judged(1, one), "validation": judged(2, one)} for name, one in baselines.items()},
            time.monotonic() - started + before,
            {
                "shoppers": sequences.shoppers,
                "items": n,
                "events": len(sequences.item),
                "masked": masked,
                "epochs": training.epochs,
                "config": asdict(config),
                "history": {"keep": trial[0], "decay": trial[1]},
                "weights": weights,
                **proved,
            },
        )
        write_report(draft, model, scale, weights, report.to_json())
        write_ranker(model, scale, texts, weights, bias, masked, {**test, **proved}, draft)
    return report


def _by(table: Neighbours, keep: int, decay: float) -> Scores:
    def scores(histories: list[Ints]) -> Float32:
        return said(table, histories, keep, decay)

    return scores
