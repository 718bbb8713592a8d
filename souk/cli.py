"""The command line of a shop: `souk search`, `similar`, `suggest`, `item`, `ingest`, `status`.

Tables for people, --json for programs. Exit code 1 where the shop refused or did not answer.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from souk import filters
from souk.client import SyncClient
from souk.dataset import BadRow, DatasetError, read_items
from souk.retriever.v1 import admin_pb2, retriever_pb2
from souk.shop.v1 import shop_pb2
from souk.show import hits_table, info_line
from souk.types.v1 import types_pb2

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Talk to a Souk shop.")
out = Console()
err = Console(stderr=True)

_BATCH = 500
_MAX_BAD_ROWS_SHOWN = 10

Shop = Annotated[str, typer.Option("--shop", envvar="SOUK_SHOP", help="host:port of the gateway.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
PageSize = Annotated[int, typer.Option("-n", "--page-size", min=1, max=100, help="Items a page.")]
PageToken = Annotated[str, typer.Option("--page", help="Page token of the answer before.")]
Shopper = Annotated[str, typer.Option("--shopper", help="Who asks.")]
Brands = Annotated[list[str] | None, typer.Option("--brand", help="Only these brands.")]
Categories = Annotated[list[str] | None, typer.Option("--category", help="Only below these: 'Home > Kitchen'.")]
MinPrice = Annotated[float | None, typer.Option("--min-price", help="Least price.")]
MaxPrice = Annotated[float | None, typer.Option("--max-price", help="Highest price.")]
Attributes = Annotated[list[str] | None, typer.Option("--attribute", help="Only with this: 'colour=red'.")]
Excluded = Annotated[list[str] | None, typer.Option("--exclude", help="Never these item ids.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show what each leg said.")]


@contextmanager
def _client(shop: str, embedder: str = "127.0.0.1:7101", retriever: str = "127.0.0.1:7102") -> Iterator[SyncClient]:
    """A client whose errors end the command with what the shop said."""
    with SyncClient(shop, embedder=embedder, retriever=retriever) as client:
        try:
            yield client
        except grpc.aio.AioRpcError as error:
            err.print(f"[red]{error.code().name}[/red]: {escape(error.details() or '')}")
            raise typer.Exit(1) from None


def _filter(
    brands: list[str] | None,
    categories: list[str] | None,
    min_price: float | None,
    max_price: float | None,
    attributes: list[str] | None,
) -> retriever_pb2.Filter | None:
    nodes: list[retriever_pb2.Filter] = []
    if brands:
        nodes.append(filters.brand(*brands))
    if categories:
        paths = [filters.category(*(name.strip() for name in path.split(">"))) for path in categories]
        nodes.append(filters.any_of(*paths))
    if min_price is not None or max_price is not None:
        nodes.append(filters.price(min_price, max_price))
    for pair in attributes or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--attribute")
        nodes.append(filters.attribute(name, [value]))
    return filters.all_of(*nodes) if nodes else None


@app.command()
def search(
    query: str,
    shop: Shop = "127.0.0.1:7100",
    shopper: Shopper = "",
    page_size: PageSize = 10,
    page: PageToken = "",
    brand: Brands = None,
    category: Categories = None,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    attribute: Attributes = None,
    exclude: Excluded = None,
    explain: Explain = False,
    as_json: Json = False,
) -> None:
    """Items for a query: souk search "red mug" --max-price 20."""
    with _client(shop) as client:
        answer = client.search(
            query,
            shopper_id=shopper,
            page_size=page_size,
            page_token=page,
            filter=_filter(brand, category, min_price, max_price, attribute),
            exclude=exclude or (),
            explain=explain,
        )
    _show(answer, answer.hits, answer.info, as_json, explain)


@app.command()
def similar(
    item_id: str,
    shop: Shop = "127.0.0.1:7100",
    page_size: PageSize = 10,
    page: PageToken = "",
    brand: Brands = None,
    category: Categories = None,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    attribute: Attributes = None,
    exclude: Excluded = None,
    explain: Explain = False,
    as_json: Json = False,
) -> None:
    """Items like one item."""
    with _client(shop) as client:
        answer = client.similar(
            item_id,
            page_size=page_size,
            page_token=page,
            filter=_filter(brand, category, min_price, max_price, attribute),
            exclude=exclude or (),
            explain=explain,
        )
    _show(answer, answer.hits, answer.info, as_json, explain)


@app.command()
def suggest(prefix: str, k: int = 10, shop: Shop = "127.0.0.1:7100", as_json: Json = False) -> None:
    """Completions of what is being typed."""
    with _client(shop) as client:
        answer = client.suggest(prefix, k)
    if as_json:
        out.print_json(MessageToJson(answer))
        return
    table = Table("completion", "items", box=None)
    for one in answer.suggestions:
        table.add_row(escape(one.text), str(one.items))
    out.print(table if answer.suggestions else "nothing begins like this")


@app.command()
def item(item_id: str, shop: Shop = "127.0.0.1:7100") -> None:
    """One item as the catalogue holds it, as JSON."""
    with _client(shop) as client:
        out.print_json(MessageToJson(client.get_item(item_id)))


@app.command()
def ingest(
    path: Path,
    shop: Shop = "127.0.0.1:7100",
    retriever: Annotated[str, typer.Option(envvar="SOUK_RETRIEVER", help="host:port of the retriever.")] = (
        "127.0.0.1:7102"
    ),
    wait: Annotated[bool, typer.Option(help="Wait until every item has its vector.")] = True,
) -> None:
    """Writes the items of a dataset directory or file (docs/data.md). Safe to repeat: what is held stays as it is."""
    bad: list[BadRow] = []
    outcomes: Counter[str] = Counter()
    refused: list[str] = []
    with _client(shop, retriever=retriever) as client:
        try:
            items = read_items(path, bad.append)
            with _progress() as progress:
                task = progress.add_task("writing items", total=None)
                while batch := list(islice(items, _BATCH)):
                    for result in client.upsert_items(batch, timeout=30):
                        outcomes[admin_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower()] += 1
                        if result.outcome == admin_pb2.OUTCOME_INVALID:
                            refused.append(f"{result.item_id}: {result.message}")
                    progress.update(task, completed=sum(outcomes.values()))
                progress.update(task, total=sum(outcomes.values()))
                if wait:
                    wait_for_vectors(client, progress)
        except DatasetError as error:
            err.print(f"[red]{escape(str(error))}[/red]")
            raise typer.Exit(1) from None
    out.print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or "no items")
    _complain("rows could not be read", [str(one) for one in bad])
    _complain("items were refused", refused)
    if bad or refused:
        raise typer.Exit(1)


@app.command()
def status(
    shop: Shop = "127.0.0.1:7100",
    embedder: Annotated[str, typer.Option(envvar="SOUK_EMBEDDER", help="host:port of the embedder.")] = (
        "127.0.0.1:7101"
    ),
    retriever: Annotated[str, typer.Option(envvar="SOUK_RETRIEVER", help="host:port of the retriever.")] = (
        "127.0.0.1:7102"
    ),
    as_json: Json = False,
) -> None:
    """What the processes hold and serve."""
    with _client(shop, embedder, retriever) as client:
        encoder, catalogue = client.encoder_info(), client.catalogue_info()
    if as_json:
        out.print_json(f'{{"embedder": {MessageToJson(encoder)}, "retriever": {MessageToJson(catalogue)}}}')
        return
    out.print(
        f"[bold]embedder[/bold]  generation {encoder.generation[:12]} · content space {encoder.space.version[:12]}"
    )
    out.print(
        f"          {encoder.space.dim} dimensions · cut at {encoder.max_tokens} tokens · {encoder.provider}"
        f" · reads {', '.join(encoder.scripts)}"
    )
    role = "primary" if catalogue.primary else f"follower, {catalogue.lag_changes} changes behind"
    out.print(f"[bold]retriever[/bold] generation {catalogue.generation[:12]} · {role}")
    out.print(f"          {catalogue.items} items · change {catalogue.sequence}")
    table = Table("space", "kind", "in the index", "newer", "outdated", "pending", "not readable", box=None)
    for index in catalogue.indexes:
        space = types_pb2.Space.Name(index.space.space).removeprefix("SPACE_").lower()
        counts = (index.base, index.delta, index.tombstones, index.pending, index.uncovered)
        table.add_row(f"{space} {index.space.version[:12]}", index.kind, *map(str, counts))
    out.print(table)


def wait_for_vectors(client: SyncClient, progress: Progress, seconds: float = 3600) -> None:
    """Shows how many items still wait for their vector; returns when none does. Raises TimeoutError."""
    task = progress.add_task("making vectors", total=None)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        catalogue = client.catalogue_info()
        pending = max((index.pending for index in catalogue.indexes), default=0)
        progress.update(task, total=catalogue.items, completed=catalogue.items - pending)
        if not pending:
            return
        time.sleep(0.2)
    raise TimeoutError(f"items still wait for their vectors after {seconds:.0f} s")


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )


def _complain(what: str, lines: list[str]) -> None:
    if lines:
        err.print(f"[yellow]{len(lines)} {what}[/yellow]")
        for line in lines[:_MAX_BAD_ROWS_SHOWN]:
            err.print(f"  {escape(line)}")
        if len(lines) > _MAX_BAD_ROWS_SHOWN:
            err.print(f"  … and {len(lines) - _MAX_BAD_ROWS_SHOWN} more")


def _show(
    answer: Message, hits: Iterable[shop_pb2.Hit], info: shop_pb2.AnswerInfo, as_json: bool, explain: bool
) -> None:
    if as_json:
        out.print_json(MessageToJson(answer))
        return
    out.print(hits_table(hits, explain))
    out.print(info_line(info))
    if info.next_page_token:
        out.print(f"[dim]next page: --page {info.next_page_token}[/dim]", soft_wrap=True)


def main() -> None:
    """Entry point."""
    app()
