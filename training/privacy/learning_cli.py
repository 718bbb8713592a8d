"""`python -m training privacy train`, `audit` and `federated`: heads that give nobody away."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training.data.cli import console, told_errors

if TYPE_CHECKING:
    from training.privacy.audit import Audit
    from training.privacy.learning import Cost
    from training.privacy.ranking import Candidates, RankingCost

Told = Callable[[int, int], None]

_DATA = typer.Option(help="A canonical dataset.")
_ENCODER = typer.Option(help="A bundle, or what `encoder export` wrote: the encoder that makes the topics.")
_CACHE = typer.Option(help="Where content vectors are kept.")
_EPSILON = typer.Option(help="What the private head may spend, above 0 to 100.")
_SEEDS = typer.Option(help="Runs, each with its own split of the shoppers.", min=1, max=100)
_JSON = typer.Option("--json", help="Print JSON and nothing else.")
# Points of NDCG@10 that privacy may cost.
_MAY_COST = 0.03


class Heads(StrEnum):
    """What `train` can learn and `audit` attack."""

    PROFILE = "profile"
    RANKING = "ranking"


def train(
    data: Annotated[Path, _DATA],
    head: Annotated[Heads, typer.Option(help="The profile head, or the heads of the ranker.")] = Heads.PROFILE,
    epsilon: Annotated[float, _EPSILON] = 3.0,
    seeds: Annotated[int, _SEEDS] = 3,
    encoder: Annotated[Path, _ENCODER] = Path(".souk/bundle"),
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """A head learned with and without differential privacy by shopper, and what that costs in NDCG@10."""
    with _refusals(), _bars() as bar:
        _check(epsilon)
        costs = _ranking_costs if head is Heads.RANKING else _profile_costs
        found = costs(data, epsilon, seeds, encoder, cache, bar)
    lost = [one.plain - one.private for one in found]
    mean = float(np.mean(lost))
    if as_json:
        typer.echo(json.dumps({"lost": mean, "reached": mean <= _MAY_COST, "seeds": [asdict(one) for one in found]}))
        return
    table = Table(
        "seed", "shoppers", "epsilon", "delta", "noise", "untrained", "not private", "private", "lost", box=None
    )
    for one in found:
        numbers = (one.untrained, one.plain, one.private, one.plain - one.private)
        facts = (f"{one.seed}", f"{one.shoppers:,}", f"{one.epsilon:.2f}", f"{one.delta:.1e}", f"{one.noise:.2f}")
        table.add_row(*facts, *(f"{number:.4f}" for number in numbers))
    console.print(table)
    over = "the candidates of the ranker" if head is Heads.RANKING else "topics"
    console.print(
        f"NDCG@10 over {over}; private loses {_spread(lost)}: {_verdict(mean <= _MAY_COST)} at most {_MAY_COST}",
        highlight=False,
    )
    following = "train --head profile" if head is Heads.RANKING else "audit"
    console.print(f"next: python -m training privacy {following} --data {data}", highlight=False, soft_wrap=True)


def _profile_costs(
    data: Path, epsilon: float, seeds: int, encoder: Path, cache: Path, bar: Callable[[str], Told]
) -> "Sequence[Cost | RankingCost]":
    # Imported here: torch takes seconds, and --help should not.
    from training.privacy.interests import read_catalogue, read_interests
    from training.privacy.learning import cost

    catalogue = read_catalogue(data, encoder, cache, 0, bar("items"))
    interests = read_interests(data, catalogue)
    return [cost(interests, epsilon, seed, bar(f"seed {seed}")) for seed in range(seeds)]


def _ranking_costs(
    data: Path, epsilon: float, seeds: int, encoder: Path, cache: Path, bar: Callable[[str], Told]
) -> "Sequence[Cost | RankingCost]":
    from training.privacy.ranking import cost

    found = []
    for seed in range(seeds):
        candidates = _candidates(data, seed, encoder, cache, bar)
        found.append(cost(candidates, epsilon, seed, bar(f"seed {seed}: heads")))
    return found


def _candidates(data: Path, seed: int, encoder: Path, cache: Path, bar: Callable[[str], Told]) -> "Candidates":
    from souk.dataset import read_items
    from training.content import Encoder
    from training.data.canonical import open_dataset
    from training.privacy.ranking import read_candidates
    from training.ranker.log import read_log
    from training.ranker.pipeline import Shop

    dataset = open_dataset(data)
    log = read_log(dataset, dataset.events(), seed)
    shop = Shop.of(log, list(read_items(data)), Encoder.open(encoder), cache, bar(f"seed {seed}: texts"))
    return read_candidates(shop, seed, bar(f"seed {seed}: retrieval"))


def audit(
    data: Annotated[Path, _DATA],
    head: Annotated[Heads, typer.Option(help="The profile head, or the heads of the ranker.")] = Heads.PROFILE,
    epsilon: Annotated[float, _EPSILON] = 3.0,
    shoppers: Annotated[int, typer.Option(help="Drawn by the seed; every head learns from half of them.")] = 300,
    models: Annotated[int, typer.Option(help="Heads of each kind: attacked in turn, with the others as shadows.")] = 32,
    seed: Annotated[int, typer.Option(help="Of who is drawn and who is learned from.")] = 0,
    encoder: Annotated[Path, _ENCODER] = Path(".souk/bundle"),
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Whether a head tells who it was learned from, with and without privacy (membership inference)."""
    from training.privacy.audit import ATTACKED, PROFILE, RESISTED, audit
    from training.privacy.interests import read_catalogue, read_interests
    from training.privacy.ranking import RANKING

    with _refusals(), _bars() as bar:
        _check(epsilon)
        found: Audit
        if head is Heads.RANKING:
            candidates = _candidates(data, seed, encoder, cache, bar)
            found = audit(RANKING, candidates.train, epsilon, shoppers, models, seed, bar("heads"))
        else:
            interests = read_interests(data, read_catalogue(data, encoder, cache, 0, bar("items")))
            found = audit(PROFILE, interests, epsilon, shoppers, models, seed, bar("heads"))
    if as_json:
        typer.echo(json.dumps({"verdict": found.verdict, **asdict(found)}))
        return
    table = Table("head", "AUC of the loss", "AUC of LiRA", "NDCG@10", box=None)
    for name, one in (("not private", found.plain), ("private", found.private)):
        attacks = (f"{each.auc:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (one.threshold, one.lira))
        table.add_row(name, *attacks, f"{one.ndcg:.4f}")
    console.print(table)
    told = {
        "inconclusive": f"inconclusive: no attack on the head without privacy reaches {ATTACKED:.2f}",
        "resisted": f"resisted: at most {RESISTED:.2f} where the head without privacy gives its shoppers away",
        "attacked": f"attacked: the private head lets an attack reach more than {RESISTED:.2f}",
    }
    console.print(told[found.verdict], highlight=False, soft_wrap=True)
    if found.verdict == "inconclusive":
        advice = f"audit --head {head} --data {data} with fewer --shoppers: the fewer, the better a head remembers them"
    else:
        advice = f"federated --data {data}"
    console.print(f"next: python -m training privacy {advice}", highlight=False, soft_wrap=True)


def federated(
    data: Annotated[Path, _DATA],
    shards: Annotated[
        int, typer.Option(help="Places where the shoppers are, by a hash of their ids.", min=2, max=100)
    ] = 4,
    seeds: Annotated[int, _SEEDS] = 3,
    encoder: Annotated[Path, _ENCODER] = Path(".souk/bundle"),
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """The profile head learned across shards that never share events, beside one place and single shards."""
    from training.privacy.datasets import divide
    from training.privacy.federated import compare
    from training.privacy.interests import read_catalogue, read_interests

    with _refusals(), _bars() as bar, TemporaryDirectory() as directory:
        catalogue = read_catalogue(data, encoder, cache, 0, bar("items"))
        interests, parts = read_interests(data, catalogue), divide(data, Path(directory), shards)
        found = [compare(interests, parts, catalogue, seed, bar(f"seed {seed}")) for seed in range(seeds)]
    lost = [one.central - one.federated for one in found]
    if as_json:
        typer.echo(json.dumps({"lost": float(np.mean(lost)), "seeds": [asdict(one) for one in found]}))
        return
    table = Table("seed", "shoppers by shard", "untrained", "one shard", "federated", "one place", box=None)
    for one in found:
        sizes = f"{min(one.shoppers):,} to {max(one.shoppers):,}"
        numbers = (one.untrained, one.alone, one.federated, one.central)
        table.add_row(f"{one.seed}", sizes, *(f"{number:.4f}" for number in numbers))
    console.print(table)
    console.print(f"NDCG@10 over topics; federated loses {_spread(lost)} to one place", highlight=False)
    console.print(f"next: python -m training privacy train --data {data}", highlight=False, soft_wrap=True)


def _check(epsilon: float) -> None:
    if not 0 < epsilon <= 100:
        raise ValueError(f"epsilon must be above 0 and at most 100, not {epsilon:g}")


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.4f} (sd {np.std(values, ddof=1) if len(values) > 1 else 0:.4f}, {len(values)} seeds)"


def _verdict(reached: bool) -> str:
    return "reached," if reached else "missed,"


@contextmanager
def _refusals() -> Iterator[None]:
    from services.domain.bundle import BundleError
    from training.encoder.card import ExportError

    with told_errors():
        try:
            yield
        except (BundleError, ExportError) as error:
            raise ValueError(str(error)) from error


@contextmanager
def _bars() -> Iterator[Callable[[str], Told]]:
    """Bars on stderr; each is told how much is done, and of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def bar(name: str) -> Told:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
