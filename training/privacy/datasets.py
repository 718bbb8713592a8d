"""Datasets with less that is personal: pseudonymised and redacted, encrypted and decrypted, or without what is old."""

import base64
import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import polars as pl
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from souk.dataset import COLUMNS
from training.data.canonical import Dataset, DatasetWriter, Info, open_dataset
from training.privacy.keys import BadKey, KeyRing
from training.privacy.pii import redact

RECEIPT = "retention.json"
_IDS = {"shopper_id": "s", "event_id": "e", "request_id": "r"}
# What names a row of the tables with queries.
_ROWS = {"events": ["event_id"], "impressions": ["request_id", "position"]}
_ENCRYPTED = "enc:"
_NONCE_BYTES = 12
# 96 bits: two of a billion ids are given the same one with a chance below 1e-10.
_PSEUDONYM_DIGITS = 24
_NOBODY: Mapping[str, KeyRing] = MappingProxyType({})
# Its owner and those of its group, nobody else.
_MODE = 0o750


@dataclass(frozen=True)
class Receipt:
    """What retention dropped: rows by table, of those before `cutoff`."""

    dataset: str
    made: str
    days: int
    cutoff: str
    kept: dict[str, int]
    dropped: dict[str, int]


def pseudonym(key: bytes, kind: str, known: str) -> str:
    """The same name for the same id under the same key, and none that tells the id without it (HMAC-SHA256)."""
    return kind + hmac.digest(key, f"{kind}\0{known}".encode(), "sha256").hex()[:_PSEUDONYM_DIGITS]


def pseudonymise(source: Path, out: Path, keys: KeyRing, roles: Mapping[str, KeyRing] = _NOBODY) -> Counter[str]:
    """Writes a dataset whose shoppers, events and answers have new ids, the same in every table, and whose queries and
    attributes hold nothing that `pii` finds; how much was found, by kind. Items keep their ids. Fields in `roles`
    are encrypted whole instead, with the first key of the role that owns them.

    Raises DatasetError where `out` exists or `source` is none.
    """
    key = keys.derived(keys.first, "pseudonyms")
    found: Counter[str] = Counter()

    def change(row: str, name: str, value: str) -> str:
        return _sealed(roles[name], row, name, value) if name in roles else redact(value, found)

    def rewrite(table: str, frame: pl.DataFrame) -> pl.DataFrame:
        named = [
            _mapped(frame[column], lambda value, kind=kind: pseudonym(key, kind, value))  # type: ignore[misc]
            for column, kind in _IDS.items()
            if column in frame.columns
        ]
        return _with_fields(change)(table, frame.with_columns(named))

    _rewrite(source, out, f"pseudonymised with key {keys.first}", rewrite)
    return found


def encrypt(source: Path, out: Path, keys: KeyRing, roles: Mapping[str, KeyRing] = _NOBODY) -> None:
    """Writes a dataset with shoppers' attribute values and the queries of events and impressions encrypted:
    AES-256-GCM (NIST SP 800-38D), bound to the row and the field, so that none can be moved to another. Fields in
    `roles` are encrypted with the first key of the role that owns them, all others with the first of `keys`.

    Raises DatasetError where `out` exists or `source` is none.
    """

    def hide(row: str, name: str, value: str) -> str:
        return _sealed(roles.get(name, keys), row, name, value)

    used = dict.fromkeys(ring.first for ring in (keys, *roles.values()))
    _rewrite(source, out, f"fields encrypted with {', '.join(used)}", _with_fields(hide))


def decrypt(source: Path, out: Path, keys: KeyRing) -> Counter[str]:
    """The opposite of `encrypt`, as far as `keys` reach; values that are not encrypted stay, and so do those of keys
    that are not here: how many, by field.

    Raises BadKey where nothing that is encrypted can be read or a value was changed or moved, DatasetError where `out`
    exists.
    """
    hidden: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    shown = 0

    def show(row: str, name: str, value: str) -> str:
        nonlocal shown
        if not value.startswith(_ENCRYPTED):
            return value
        key_id, _, text = value.removeprefix(_ENCRYPTED).partition(":")
        if key_id not in keys.keys:
            hidden[name] += 1
            unknown[key_id] += 1
            return value
        cipher = AESGCM(keys.derived(key_id, "fields"))
        try:
            raw = base64.urlsafe_b64decode(text)
            plain = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], f"{row}\0{name}".encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise BadKey(f"{name} of {row}: another key made it, or it was changed or moved") from error
        shown += 1
        return plain

    def finished(directory: Path) -> None:
        if hidden and not shown:
            raise BadKey(f"nothing can be read: it was encrypted with {', '.join(unknown)}, and none of them is here")

    _rewrite(source, out, "fields decrypted", _with_fields(show), finished)
    return hidden


def retain(source: Path, out: Path, days: int, now: datetime) -> Receipt:
    """Writes a dataset without events and impressions older than `days` before `now`, and without the shoppers of whom
    nothing but these was known; a receipt lies in it as retention.json.

    Raises ValueError where days is below 1 or reaches before the year 1, or impressions have no time, NoTime where
    events have none, DatasetError where `out` exists.
    """
    if days < 1:
        raise ValueError(f"days must be at least 1, not {days}")
    dataset = open_dataset(source)
    dataset.require_time("retention")
    try:
        cutoff = now - timedelta(days=days)
    except OverflowError:
        raise ValueError(f"days: {days} before {now:%Y-%m-%d} is before the year 1") from None
    young = pl.col("time") >= cutoff
    events, impressions = dataset.events(), dataset.impressions()
    if impressions["time"].has_nulls():
        raise ValueError(f"impressions of {source} have no time: retention cannot tell which are old")
    seen = pl.concat([events.select("shopper_id", "time"), impressions.select("shopper_id", "time")])
    gone = seen.join(seen.filter(young), on="shopper_id", how="anti")
    kept, dropped = Counter[str](), Counter[str]()

    def change(table: str, frame: pl.DataFrame) -> pl.DataFrame:
        left = frame
        if table in ("events", "impressions"):
            left = frame.filter(young)
        elif table == "shoppers":
            left = frame.join(gone, on="shopper_id", how="anti", maintain_order="left")
        kept[table], dropped[table] = left.height, frame.height - left.height
        return left

    def finished(directory: Path) -> None:
        (directory / RECEIPT).write_text(json.dumps(asdict(receipt()), indent=1) + "\n")

    def receipt() -> Receipt:
        return Receipt(dataset.info.name, now.isoformat(), days, cutoff.isoformat(), dict(kept), dict(dropped))

    _rewrite(source, out, f"nothing before {cutoff.isoformat()}", change, finished)
    return receipt()


def bucket(text: str, of: int) -> int:
    """0 to below `of`, the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % of


def divide(source: Path, out: Path, parts: int) -> list[Path]:
    """Writes a dataset each with some of the shoppers and what they did, by a hash of their ids; items and judgements
    are in all. They lie in the directory `out`, as 0, 1, ... and are returned in this order.

    Raises ValueError where parts is below 2, DatasetError where one exists or `source` is none.
    """
    if parts < 2:
        raise ValueError(f"parts must be at least 2, not {parts}")

    def write(part: int) -> Path:
        def change(table: str, frame: pl.DataFrame) -> pl.DataFrame:
            if "shopper_id" not in frame.columns:
                return frame
            mine = pl.Series(
                [who is not None and bucket(who, parts) == part for who in frame["shopper_id"]], dtype=pl.Boolean
            )
            return frame.filter(mine)

        _rewrite(source, out / str(part), f"shoppers of part {part} of {parts}", change)
        return out / str(part)

    return [write(part) for part in range(parts)]


def _rewrite(
    source: Path,
    out: Path,
    note: str,
    change: Callable[[str, pl.DataFrame], pl.DataFrame],
    finished: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Every table changed; `finished` hears where they lie before they stand under their name."""
    dataset = open_dataset(source)
    info = dataset.info
    told = Info(
        info.name,
        info.version,
        info.origin,
        info.licence,
        info.generator,
        dropped=info.dropped,
        notes=(*info.notes, note),
    )
    with DatasetWriter(out, told) as writer:
        for table in COLUMNS:
            frame = _table(dataset, table)
            if frame.height:
                writer.write(table, change(table, frame).to_arrow())
        finished(writer.directory)
    out.chmod(_MODE)


def _table(dataset: Dataset, table: str) -> pl.DataFrame:
    frame: pl.DataFrame = getattr(dataset, table)()
    return frame


def _sealed(keys: KeyRing, row: str, name: str, value: str) -> str:
    """A value encrypted with the first of the keys; it says which that is."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AESGCM(keys.derived(keys.first, "fields"))
    hidden = cipher.encrypt(nonce, value.encode(), f"{row}\0{name}".encode())
    return f"{_ENCRYPTED}{keys.first}:{base64.urlsafe_b64encode(nonce + hidden).decode()}"


def _with_fields(change: Callable[[str, str, str], str]) -> Callable[[str, pl.DataFrame], pl.DataFrame]:
    """What shoppers tell and ask for changed, of (row, field, value); the other columns and tables as they are."""

    def of_table(table: str, frame: pl.DataFrame) -> pl.DataFrame:
        if table == "shoppers":
            return frame.with_columns(_attributes(frame, change))
        if table in _ROWS:
            rows = frame.select(pl.concat_str(_ROWS[table], separator=" ")).to_series()
            pairs = zip(rows, frame["query"], strict=True)
            queries = [None if query is None else change(row, "query", query) for row, query in pairs]
            return frame.with_columns(pl.Series("query", queries, pl.String))
        return frame

    return of_table


def _attributes(frame: pl.DataFrame, change: Callable[[str, str, str], str]) -> pl.Series:
    """The shoppers' attributes with each value changed, of (shopper, name, value)."""
    changed = [
        None
        if text is None
        else json.dumps(
            {name: [change(shopper, name, value) for value in values] for name, values in json.loads(text).items()},
            ensure_ascii=False,
        )
        for shopper, text in zip(frame["shopper_id"], frame["attributes"], strict=True)
    ]
    return pl.Series("attributes", changed, pl.String)


def _mapped(column: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """Each different value changed once."""
    old = column.drop_nulls().unique()
    new = pl.Series([change(value) for value in old], dtype=pl.String)
    return column.replace_strict(old, new, default=None, return_dtype=pl.String)
