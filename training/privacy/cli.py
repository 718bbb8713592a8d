"""`python -m training privacy`: less that is personal in a dataset, on the command line."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from training.data.cli import complaints, console, told_errors
from training.privacy.learning_cli import audit, federated, train

app = typer.Typer(
    help="Pseudonyms, redaction, encryption, retention, anonymity, private learning.", no_args_is_help=True
)
app.command()(train)
app.command()(audit)
app.command()(federated)
_DATA = typer.Option(help="A canonical dataset.")
_OUT = typer.Option(help="New dataset directory.")
_KEYS = typer.Option(help="File of keys, mode 600. Default: the environment variable SOUK_PRIVACY_KEYS.")
_ROLES = typer.Option(help="TOML file that says which fields each role owns: these only its keys decrypt.")
_JSON = typer.Option("--json", help="Print JSON and nothing else.")


@app.command("new-key")
def new_key_command(file: Annotated[Path, typer.Argument(help="File of keys; made where it is not there.")]) -> None:
    """Put a new key first in a file: it encrypts from now on, the others still decrypt."""
    from training.privacy.keys import new_key

    with told_errors():
        key_id = new_key(file)
    console.print(f"key {key_id} -> {file}", highlight=False, soft_wrap=True)
    console.print("keep a copy where the data are not; who has it can tell who is who", highlight=False)
    _next(f"pseudonymise --data DATASET --out NEW --key-file {file}")


@app.command()
def pseudonymise(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, _OUT],
    key_file: Annotated[Path | None, _KEYS] = None,
    roles: Annotated[Path | None, _ROLES] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Give shoppers, events and answers new ids, the same in every table, and redact queries and attributes."""
    from training.privacy import datasets
    from training.privacy.keys import read_keys
    from training.privacy.roles import read_roles

    with told_errors(), complaints.status("pseudonymising"):
        found = datasets.pseudonymise(data, out, read_keys(key_file), read_roles(roles))
    if as_json:
        typer.echo(json.dumps({"redacted": dict(sorted(found.items()))}))
        return
    told = ", ".join(f"{count:,} {kind}" for kind, count in found.most_common()) or "nothing"
    console.print(f"{out}: redacted {told}", highlight=False, soft_wrap=True)
    _next(f"anonymity --data {out}")


@app.command()
def encrypt(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, _OUT],
    key_file: Annotated[Path | None, _KEYS] = None,
    roles: Annotated[Path | None, _ROLES] = None,
) -> None:
    """Encrypt shoppers' attribute values and the queries of events and impressions (AES-256-GCM)."""
    from training.privacy import datasets
    from training.privacy.keys import read_keys
    from training.privacy.roles import read_roles

    with told_errors(), complaints.status("encrypting"):
        datasets.encrypt(data, out, read_keys(key_file), read_roles(roles))
    _next(f"decrypt --data {out} --out NEW, with the same keys")


@app.command()
def decrypt(
    data: Annotated[Path, _DATA], out: Annotated[Path, _OUT], key_file: Annotated[Path | None, _KEYS] = None
) -> None:
    """The opposite of encrypt, as far as the keys reach; refuses values that were changed or moved."""
    from training.privacy import datasets
    from training.privacy.keys import read_keys

    with told_errors(), complaints.status("decrypting"):
        hidden = datasets.decrypt(data, out, read_keys(key_file))
    if hidden:
        told = ", ".join(f"{count:,} of {name}" for name, count in hidden.most_common())
        console.print(f"{out}: not for these keys, still encrypted: {told}", highlight=False, soft_wrap=True)
    console.print(f"next: python -m training quality --data {out}", highlight=False, soft_wrap=True)


@app.command()
def retain(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, _OUT],
    days: Annotated[int, typer.Option(help="Keep what happened in so many days.")],
    until: Annotated[datetime | None, typer.Option(help="They end here, UTC. Default: now.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Drop events and impressions older than so many days, with a receipt."""
    from training.privacy import datasets

    with told_errors(), complaints.status("dropping"):
        end = datetime.now(UTC) if until is None else until.replace(tzinfo=UTC)
        receipt = datasets.retain(data, out, days, end)
    if as_json:
        typer.echo(json.dumps(asdict(receipt)))
        return
    table = Table("table", "kept", "dropped")
    for name, kept in receipt.kept.items():
        table.add_row(name, f"{kept:,}", f"{receipt.dropped[name]:,}")
    console.print(table)
    console.print(f"receipt: {out / datasets.RECEIPT}", highlight=False, soft_wrap=True)
    console.print(f"next: remove {data}, which still holds what was dropped", highlight=False, soft_wrap=True)


@app.command()
def anonymity(
    data: Annotated[Path, _DATA],
    k: Annotated[int, typer.Option(help="The smallest group that is large enough.")] = 5,
    by: Annotated[list[str] | None, typer.Option(help="Attribute to group by. Default: all of them.")] = None,
    sensitive: Annotated[str, typer.Option(help="Attribute that a group must not give away.")] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """How many shoppers share all attributes with fewer than k; exits with 1 where any do, and says what would help."""
    from training.privacy.anonymity import check, read_attributes

    with told_errors():
        shoppers = read_attributes(data)
        quasi = by or sorted({name for one in shoppers for name in one} - {sensitive})
        found = check(shoppers, quasi, k, sensitive)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        console.print(
            f"{found.shoppers:,} shoppers in {found.groups:,} groups by {', '.join(quasi) or 'nothing'}; "
            f"the smallest has {found.smallest:,}; {found.at_risk:,} are in groups below {k}",
            highlight=False,
        )
        if sensitive:
            console.print(f"fewest values of {sensitive} in a group: {found.least_diverse}", highlight=False)
        if found.ways:
            table = Table("would help", "still at risk")
            for way in found.ways:
                table.add_row(way.what, f"{way.at_risk:,}")
            console.print(table)
        console.print(f"next: python -m training quality --data {data}", highlight=False, soft_wrap=True)
    if found.at_risk:
        raise typer.Exit(1)


def _next(command: str) -> None:
    console.print(f"next: python -m training privacy {command}", highlight=False, soft_wrap=True)
