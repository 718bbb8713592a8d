"""The command line of a shop: `souk search`, `recommend`, `similar`, `suggest`, `event`, `ingest`, `admin` and more.

Tables for people, --json for programs. Exit code 1 where the shop refused or did not answer.
"""

import getpass
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

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
from souk.coldstart.v1 import review_pb2
from souk.dataset import BadRow, DatasetError, find_table, read_events, read_items
from souk.ingest import wait_for_vectors, write_events, write_items
from souk.retriever.v1 import admin_pb2, retriever_pb2
from souk.shop.v1 import shop_pb2
from souk.show import decisions_table, hits_table, info_line
from souk.types.v1 import generations_pb2, types_pb2

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Talk to a Souk shop.")
out = Console()
err = Console(stderr=True)

_MAX_BAD_ROWS_SHOWN = 10
# How gRPC says that no process listens at an address.
_REFUSED = re.compile(r"ipv[46]:(\S+?): .*connection refused", re.IGNORECASE | re.DOTALL)

Shop = Annotated[str, typer.Option("--shop", envvar="SOUK_SHOP", help="host:port of the gateway.")]
Embedder = Annotated[
    str | None,
    typer.Option(
        "--embedder", envvar="SOUK_EMBEDDER", help="host:port of the embedder. Default: the gateway's port + 1."
    ),
]
Retriever = Annotated[
    str | None,
    typer.Option(
        "--retriever", envvar="SOUK_RETRIEVER", help="host:port of the retriever. Default: the gateway's port + 2."
    ),
]
Coldstart = Annotated[
    str | None,
    typer.Option(
        "--coldstart", envvar="SOUK_COLDSTART", help="host:port of coldstart. Default: the gateway's port + 4."
    ),
]
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
def _client(
    shop: str, embedder: str | None = None, retriever: str | None = None, coldstart: str | None = None
) -> Iterator[SyncClient]:
    """A client whose errors end the command with what the shop said; addresses not told are beside the gateway's."""
    with SyncClient(
        shop,
        embedder=embedder or _beside(shop, 1),
        retriever=retriever or _beside(shop, 2),
        coldstart=coldstart or _beside(shop, 4),
    ) as client:
        try:
            yield client
        except grpc.aio.AioRpcError as error:
            if refused := _REFUSED.search(error.details() or ""):
                err.print(
                    f"[red]nothing answers at {refused[1]}[/red]: is the shop running (python -m services)? --help "
                    "says which option or variable names another address",
                    soft_wrap=True,
                )
            else:
                err.print(f"[red]{error.code().name}[/red]: {escape(error.details() or '')}")
            raise typer.Exit(1) from None


def _beside(shop: str, place: int) -> str:
    """Where a local stack has another process of the same shop. Another shop's would answer at a fixed address, too."""
    host, _, port = shop.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter(f"{shop!r} must be host:port", param_hint="--shop")
    return f"{host}:{int(port) + place}"


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
    nodes += [filters.attribute(name, [value]) for name, value in map(_pair, attributes or ())]
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
    retriever: Retriever = None,
    events: Annotated[bool, typer.Option(help="Write the events of a dataset directory, too.")] = True,
    wait: Annotated[bool, typer.Option(help="Wait until every item has its vector.")] = True,
) -> None:
    """Writes the items, and the events, of a dataset (docs/data.md). Safe to repeat: what is held stays as it is."""
    bad: list[BadRow] = []
    with _client(shop, retriever=retriever) as client:
        try:
            with _progress() as progress:
                items = write_items(client, read_items(path, bad.append), progress)
                written = 0
                if events and path.is_dir() and find_table(path, "events"):
                    written = write_events(client, read_events(path, bad.append), progress)
                if wait:
                    wait_for_vectors(client, progress)
        except DatasetError as error:
            err.print(f"[red]{escape(str(error))}[/red]")
            raise typer.Exit(1) from None
    outcomes = Counter(_outcome(result) for result in items)
    out.print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or "no items")
    if written:
        out.print(f"{written} events written")
    refused = [f"{one.item_id}: {one.message}" for one in items if one.outcome == admin_pb2.OUTCOME_INVALID]
    _complain("rows could not be read", [str(one) for one in bad])
    _complain("items were refused", refused)
    if bad or refused:
        raise typer.Exit(1)


@app.command()
def status(
    shop: Shop = "127.0.0.1:7100",
    embedder: Embedder = None,
    retriever: Retriever = None,
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


@app.command()
def recommend(
    shop: Shop = "127.0.0.1:7100",
    shopper: Shopper = "",
    scene: Annotated[
        str, typer.Option(help="home, similar, cart, new_arrivals, promotion, campaign, sponsored.")
    ] = "home",
    about: Annotated[
        list[str] | None, typer.Option("--item", help="The page's item, or the items in the cart.")
    ] = None,
    know: Annotated[list[str] | None, typer.Option("--know", help="What the shop knows: 'country=GB'.")] = None,
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
    """Items for a shopper: souk recommend --shopper 42 --scene home."""
    known = [types_pb2.Attribute(name=name, values=[value]) for name, value in map(_pair, know or ())]
    with _client(shop) as client:
        answer = client.recommend(
            _named(types_pb2.Scene, "SCENE_", scene),
            shopper_id=shopper,
            item_ids=about or (),
            shopper_attributes=known,
            page_size=page_size,
            page_token=page,
            filter=_filter(brand, category, min_price, max_price, attribute),
            exclude=exclude or (),
            explain=explain,
        )
    if not as_json:
        out.print(f"stage: {types_pb2.Stage.Name(answer.stage).removeprefix('STAGE_').lower()}")
    _show(answer, answer.hits, answer.info, as_json, explain)


@app.command()
def brands(
    shop: Shop = "127.0.0.1:7100",
    shopper: Shopper = "",
    count: Annotated[int, typer.Option("--k", help="How many.")] = 10,
    category: Categories = None,
    as_json: Json = False,
) -> None:
    """Brands for a shopper, each with its best items: souk brands --shopper 42."""
    with _client(shop) as client:
        answer = client.recommend_brands(shopper_id=shopper, k=count, filter=_filter(None, category, None, None, None))
    for one in () if as_json else answer.brands:
        out.print(f"[bold]{escape(one.brand)}[/bold] {one.score:.3f}")
        out.print(hits_table(one.hits))
    _show(answer, (), answer.info, as_json, explain=False)


@app.command()
def event(
    shopper: Annotated[str, typer.Option("--shopper", help="Whose event.")],
    kind: Annotated[
        str, typer.Option("--type", help="search, view, click, cart, uncart, purchase, return, skip.")
    ] = "view",
    item_id: Annotated[str, typer.Option("--item", help="What it happened to.")] = "",
    query: Annotated[str, typer.Option(help="What was typed.")] = "",
    request_id: Annotated[str, typer.Option(help="The answer that showed the item.")] = "",
    event_id: Annotated[str, typer.Option(help="Makes a repeat harmless; a new one if not given.")] = "",
    shop: Shop = "127.0.0.1:7100",
) -> None:
    """Tells the shop what a shopper did: souk event --shopper 42 --type purchase --item A1."""
    one = types_pb2.Event(
        event_id=event_id or uuid.uuid4().hex,
        shopper_id=shopper,
        type=_named(types_pb2.EventType, "EVENT_TYPE_", kind),
        item_id=item_id,
        query=query,
        request_id=request_id,
    )
    with _client(shop) as client:
        answer = client.record_events([one])
    out.print(
        f"{answer.accepted} written, {answer.duplicates} known already"
        + (", its item is not in the catalogue yet" if answer.unknown_items else "")
    )


shopper_app = typer.Typer(no_args_is_help=True, help="What is held of a shopper.")
app.add_typer(shopper_app, name="shopper")


@shopper_app.command("show")
def shopper_show(
    shopper_id: str, shop: Shop = "127.0.0.1:7100", coldstart: Coldstart = None, as_json: Json = False
) -> None:
    """All that is held of a shopper."""
    with _client(shop, coldstart=coldstart) as client:
        parts = client.shopper(shopper_id)
    if as_json:
        out.print_json(f"[{', '.join(MessageToJson(part) for part in parts)}]")
        return
    counts = Counter(part.WhichOneof("part") for part in parts)
    for part in parts:
        if part.WhichOneof("part") == "context":
            known = part.context
            out.print(f"stage {types_pb2.Stage.Name(known.stage).removeprefix('STAGE_').lower()}")
            for what, names in (
                ("interests", [f"{one.label} {one.share:.2f}" for one in known.topics[:5]]),
                ("brands", [f"{one.name} {one.share:.2f}" for one in known.brands[:5]]),
                ("categories", [f"{one.name} {one.share:.2f}" for one in known.categories[:5]]),
                ("attributes", [f"{one.name}={', '.join(one.values)}" for one in known.attributes]),
            ):
                out.print(f"{what}: {escape(', '.join(names)) or 'none'}")
    out.print(f"{counts['event']} events, {counts['impression']} impressions; --json shows them")


@shopper_app.command("forget")
def shopper_forget(shopper_id: str, shop: Shop = "127.0.0.1:7100", coldstart: Coldstart = None) -> None:
    """Erases all that is held of a shopper."""
    with _client(shop, coldstart=coldstart) as client:
        answer = client.forget_shopper(shopper_id)
    out.print(f"erased: {answer.events} events, {answer.impressions} impressions")


admin_app = typer.Typer(no_args_is_help=True, help="Changes the models under traffic: prepare, switch, retire.")
app.add_typer(admin_app, name="admin")


@admin_app.command("list")
def admin_list(shop: Shop = "127.0.0.1:7100") -> None:
    """The generations that the processes hold."""
    with _client(shop) as client:
        table = Table("generation", "state", "serving", "pending items", "", box=None)
        for one in client.generations():
            state = generations_pb2.GenerationState.Name(one.state).removeprefix("GENERATION_STATE_").lower()
            table.add_row(
                one.generation, state, "yes" if one.serving else "", str(one.pending_items), escape(one.message)
            )
        out.print(table)


@admin_app.command("prepare")
def admin_prepare(
    bundle: Annotated[Path, typer.Argument(help="Directory of a bundle, on the machine of the processes.")],
    shop: Shop = "127.0.0.1:7100",
    minutes: Annotated[float, typer.Option(help="How long to wait for it.")] = 30.0,
) -> None:
    """Loads a bundle in every process beside what serves, and waits until it is ready."""
    end = time.monotonic() + minutes * 60
    with _client(shop) as client, err.status("preparing") as progress:
        while True:
            try:
                ready = client.prepare(str(bundle.resolve()), timeout=20)
                break
            except grpc.aio.AioRpcError as error:
                # It goes on loading; the next call waits for it again.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or time.monotonic() > end:
                    raise
                pending = max((one.pending_items for one in client.generations()), default=0)
                progress.update(f"preparing: {pending} items still lack a vector")
    out.print(f"ready: {ready.generation}\nnext: souk admin switch {ready.generation}")


@admin_app.command("switch")
def admin_switch(generation: str, shop: Shop = "127.0.0.1:7100") -> None:
    """Makes a prepared generation the one that serves, in every process."""
    with _client(shop) as client:
        old = [one.generation for one in client.generations() if one.serving]
        client.switch(generation)
    out.print(
        f"{generation[:12]} serves" + "".join(f"\nnext: souk admin retire {one}" for one in old if one != generation)
    )


@admin_app.command("retire")
def admin_retire(generation: str, shop: Shop = "127.0.0.1:7100") -> None:
    """Lets a generation go, in every process."""
    with _client(shop) as client:
        client.retire(generation)
    out.print(f"{generation[:12]} is let go")


review_app = typer.Typer(
    no_args_is_help=True,
    help="What people decide of items: approve, suppress, pin, undo; and what is proposed to them.",
)
app.add_typer(review_app, name="review")
Why = Annotated[str, typer.Option("--why", help="The reason, for the audit.")]
Who = Annotated[str, typer.Option("--who", envvar="SOUK_WHO", help="Who decides; your login if not given.")]
Until = Annotated[datetime | None, typer.Option("--until", help="When it ends, in this machine's time; never if not.")]


@review_app.command("list")
def review_list(
    k: Annotated[int, typer.Option("--k", help="How many of each kind.", min=1, max=200)] = 10,
    shop: Shop = "127.0.0.1:7100",
    as_json: Json = False,
) -> None:
    """Items to look at: new ones never shown, and those that most come back or are most waved away."""
    with _client(shop) as client:
        found = client.proposals(k)
    if as_json:
        out.print_json(f"[{', '.join(map(MessageToJson, found))}]")
        return
    table = Table("why", "item", "title", "shown", "purchased", "returned", "skipped", box=None, pad_edge=False)
    for one in found:
        kind = review_pb2.ProposalKind.Name(one.kind).removeprefix("PROPOSAL_KIND_").lower()
        counts = (one.shown, one.purchased, one.returned, one.skipped)
        table.add_row(kind, escape(one.item_id), escape(one.title[:40]), *map(str, counts))
    out.print(table if found else "nothing is proposed")
    out.print("next: souk review approve ITEM --why …, or suppress, or pin")


@review_app.command("approve")
def review_approve(item_id: str, why: Why, who: Who = "", until: Until = None, shop: Shop = "127.0.0.1:7100") -> None:
    """The item is fine: it is proposed no more, and a suppression in all scenes ends."""
    _decide(shop, who, why, until, verdict=review_pb2.VERDICT_APPROVE, item_id=item_id)


@review_app.command("suppress")
def review_suppress(
    item_id: str,
    why: Why,
    scene: Annotated[str, typer.Option(help="Only in this scene: search, home, ….")] = "",
    who: Who = "",
    until: Until = None,
    shop: Shop = "127.0.0.1:7100",
) -> None:
    """The item is shown no more, from the next answer on."""
    where = _named(types_pb2.Scene, "SCENE_", scene) if scene else types_pb2.SCENE_UNSPECIFIED
    _decide(shop, who, why, until, verdict=review_pb2.VERDICT_SUPPRESS, item_id=item_id, scene=where)


@review_app.command("pin")
def review_pin(
    item_id: str,
    why: Why,
    scene: Annotated[str, typer.Option(help="Where: search, home, similar, cart, new_arrivals, promotion, ….")],
    place: Annotated[int, typer.Option(help="Place in the answer, from 1.", min=1, max=100)] = 1,
    query: Annotated[str, typer.Option(help="In search: only for this query.")] = "",
    category: Annotated[str, typer.Option(help="Only where this is asked for: 'Home > Kitchen'.")] = "",
    promotion: Annotated[str, typer.Option(help="Only where this promotion is asked for.")] = "",
    who: Who = "",
    until: Until = None,
    shop: Shop = "127.0.0.1:7100",
) -> None:
    """The item has a place, as long as it passes the caller's filter, is in stock and visible."""
    _decide(
        shop,
        who,
        why,
        until,
        verdict=review_pb2.VERDICT_PIN,
        item_id=item_id,
        scene=_named(types_pb2.Scene, "SCENE_", scene),
        place=place - 1,
        query=query,
        category_path=[name.strip() for name in category.split(">")] if category else [],
        promotion=promotion,
    )


@review_app.command("undo")
def review_undo(
    number: Annotated[int, typer.Argument(help="Of the decision, as the log shows it.", min=1)],
    why: Why,
    who: Who = "",
    shop: Shop = "127.0.0.1:7100",
) -> None:
    """Takes a decision back that is in force."""
    _decide(shop, who, why, None, verdict=review_pb2.VERDICT_UNDO, undoes=number)


@review_app.command("log")
def review_log(
    item_id: Annotated[str, typer.Option("--item", help="Only of this item.")] = "",
    in_force: Annotated[bool, typer.Option("--in-force", help="Only suppressions and pins in force now.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=1000)] = 100,
    before: Annotated[int, typer.Option(help="Only decisions before this number.", min=0)] = 0,
    shop: Shop = "127.0.0.1:7100",
    as_json: Json = False,
) -> None:
    """Who decided what, when and why, newest first."""
    with _client(shop) as client:
        if in_force:
            held = [one for one in client.decisions() if item_id in ("", one.item_id)]
            found = [one for one in reversed(held) if not before or one.sequence < before][:limit]
        else:
            found = list(client.audit(item_id, before=before, limit=limit))
    if as_json:
        out.print_json(f"[{', '.join(map(MessageToJson, found))}]")
        return
    out.print(decisions_table(found) if found else "nothing was decided")
    if len(found) == limit:
        out.print(f"next: souk review log --before {found[-1].sequence}")


def _decide(shop: str, who: str, why: str, until: datetime | None, **what: Any) -> None:
    decision = review_pb2.Decision(who=who or getpass.getuser(), why=why, **what)
    if until is not None:
        decision.until.FromDatetime(until.astimezone(UTC))
    with _client(shop) as client:
        written = client.decide(decision)
    out.print(decisions_table([written]))
    if written.verdict != review_pb2.VERDICT_UNDO:
        out.print(f"to take it back: souk review undo {written.sequence} --why …")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


def _named(enum: Any, prefix: str, name: str) -> Any:
    """The value of a proto enum by its short name, in any case."""
    values = {key.removeprefix(prefix).lower(): value for key, value in enum.items() if value}
    if name.lower() not in values:
        raise typer.BadParameter(f"{name!r}; it must be one of {', '.join(values)}")
    return values[name.lower()]


def _outcome(result: admin_pb2.WriteResult) -> str:
    return admin_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower()


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
    shown = list(hits)
    out.print(hits_table(shown, explain) if shown else "nothing fits")
    out.print(info_line(info))
    if info.next_page_token:
        out.print(f"[dim]next page: --page {info.next_page_token}[/dim]", soft_wrap=True)


def main() -> None:
    """Entry point."""
    app()
