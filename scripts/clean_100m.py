"""How fast `training clean` takes a log of any length, and in how much memory, beside plain polars.

    python scripts/clean_100m.py --rows 100000000 --work DIR

Generates a dirty log in DIR (once; it is kept), cleans it with the shipped rules `canonical` and runs a plain polars
query over it: scan, the same drops that look at one row alone, sink. Each in a process of its own, so that memory and
processor time are its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pyarrow import parquet
from rich.console import Console
from rich.progress import track
from rich.table import Table

CHUNK = 2_000_000
ITEMS = 100_000
EVENTS_A_SHOPPER = 100
TYPES = ("VIEW", "CLICK", "SEARCH", "CART", "PURCHASE", "RETURN")
SHARES = (0.5, 0.25, 0.1, 0.08, 0.06, 0.01)
QUERIES = (
    "red mug",
    "cafÃ© crÃ¨me",
    "<b>tea pot</b>",
    "salt &amp; pepper",
    " lamp  shade",
    "蓝色 杯子",
    "chair",
    "n/a",
)
START = np.datetime64("2025-01-01T00:00:00", "us")
DAYS = 365


def generate(number: str, source: Path) -> None:
    """Writes items and `number` events, of which some percent are dirty."""
    rows = int(number)
    draft = source.with_name(f".{source.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    random = np.random.default_rng(7)
    prices = np.round(random.lognormal(2.5, 1, ITEMS), 2) + 0.5
    ids = np.char.add("I", np.arange(ITEMS).astype(str))
    pl.DataFrame({"item_id": ids, "title": ids, "price": prices, "currency": ["EUR"] * ITEMS}).write_parquet(
        draft / "items.parquet"
    )
    writer = None
    for start in track(range(0, rows, CHUNK), "generate", console=Console(stderr=True)):
        chunk = _events(random, start, min(CHUNK, rows - start), max(1, rows // EVENTS_A_SHOPPER), prices)
        columns = chunk.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or parquet.ParquetWriter(draft / "events.parquet", columns.schema, compression="zstd")
        writer.write_table(columns)
    if writer is not None:
        writer.close()
    draft.rename(source)


def _events(
    random: np.random.Generator, start: int, n: int, shoppers: int, prices: np.ndarray[Any, Any]
) -> pl.DataFrame:
    item = (ITEMS * random.random(n) ** 3).astype(np.int64)
    shopper = random.integers(shoppers, size=n)
    kind = random.choice(len(TYPES), size=n, p=SHARES)
    moment = START + (random.random(n) * DAYS * 86_400_000_000).astype("timedelta64[us]")
    number = np.arange(start, start + n)

    def some(share: float) -> np.ndarray[Any, Any]:
        return random.random(n) < share

    number = np.where(some(0.01), np.maximum(number - 1, 0), number)
    # A bot: one shopper, all within two minutes.
    bot = some(0.0005)
    moment = np.where(bot, START + (random.random(n) * 120_000_000).astype("timedelta64[us]"), moment)
    moment = np.where(some(0.003), moment + np.timedelta64(20_000, "D"), moment)
    sale = np.isin(kind, (TYPES.index("PURCHASE"), TYPES.index("RETURN")))
    price = np.where(some(0.001), prices[item] * 100, prices[item])
    quantity = np.where(some(0.02), -1, random.integers(1, 4, n))
    frame = pl.DataFrame(
        {
            "number": number,
            "shopper": np.where(bot, 0, shopper),
            "kind": kind,
            "time": moment,
            "item": np.where(some(0.005), item + ITEMS, item),
            "quantity": quantity,
            "price": price,
            "sale": sale,
            "lost": some(0.01),
            "query": random.integers(len(QUERIES), size=n),
        }
    )
    search = pl.col("kind") == TYPES.index("SEARCH")
    return frame.select(
        event_id=pl.format("e{}", "number"),
        shopper_id=pl.when(~pl.col("lost")).then(pl.format("s{}", "shopper")),
        type=pl.col("kind").replace_strict(dict(enumerate(TYPES)), return_dtype=pl.String),
        time=pl.col("time").dt.replace_time_zone("UTC"),
        item_id=pl.when(~search).then(pl.format("I{}", "item")),
        query=pl.when(search).then(pl.col("query").replace_strict(dict(enumerate(QUERIES)), return_dtype=pl.String)),
        quantity=pl.when("sale").then("quantity"),
        price=pl.when("sale").then("price"),
        currency=pl.when("sale").then(pl.lit("EUR")),
    )


def clean(source: str, out: Path) -> None:
    """The command, as a shop runs it."""
    command = [sys.executable, "-m", "training", "clean", "--source", source, "--rules", "canonical", "--json"]
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)


def plain(source: str, out: Path) -> None:
    """What polars alone does of it: scan, filter, sink; no duplicates, nothing by shopper, no text, no account."""
    out.mkdir()
    items = pl.scan_parquet(f"{source}/items.parquet").select("item_id", catalogue=pl.col("price"))
    ratio = pl.col("price") / pl.col("catalogue")
    pl.scan_parquet(f"{source}/events.parquet").join(items, on="item_id", how="left").filter(
        pl.col("shopper_id").is_not_null(),
        pl.col("item_id").is_null() | pl.col("catalogue").is_not_null(),
        pl.col("time") <= pl.lit("2027-01-01").str.to_datetime(time_zone="UTC"),
        pl.col("quantity").is_null() | pl.col("quantity").is_between(1, 100_000),
        pl.col("price").is_null() | ratio.is_between(1 / 20, 20),
    ).drop("catalogue").sink_parquet(out / "events.parquet")


STEPS = {"generate": generate, "plain": plain, "clean": clean}


def measured(step: str, *given: str) -> tuple[float, float, float]:
    """Runs a step of this file alone: seconds, seconds of processor, GiB at its peak, its children among them."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--step", step, *given])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{step} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main() -> None:
    """Runs the three steps and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="Print the numbers as JSON and nothing else.")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    source = given.work / f"source-{given.rows}"
    results = {}
    if not source.is_dir():
        results["generate"] = measured("generate", str(given.rows), str(source))
    for step in ("plain", "clean"):
        out = given.work / step
        shutil.rmtree(out, ignore_errors=True)
        results[step] = measured(step, str(source), str(out))
    account = json.loads((given.work / "clean" / "cleaning.json").read_text(encoding="utf-8"))["tables"]["events"]
    if given.json:
        facts = {step: dict(zip(("seconds", "processor", "gib"), one, strict=True)) for step, one in results.items()}
        sys.stdout.write(json.dumps({"rows": given.rows, "steps": facts, "dropped": account["dropped"]}) + "\n")
        return
    table = Table("", "seconds", "of processor", "rows/s", "rows/s of processor", "peak GiB")
    for step, (seconds, processor, gib) in results.items():
        speeds = (f"{given.rows / one:,.0f}" for one in (seconds, processor))
        table.add_row(step, f"{seconds:.1f}", f"{processor:.1f}", *speeds, f"{gib:.2f}")
    console = Console()
    console.print(table)
    dropped = ", ".join(f"{rule} {rows:,}" for rule, rows in account["dropped"].items())
    console.print(f"kept {account['kept']:,} of {account['rows_in']:,}; dropped: {dropped}", highlight=False)
    console.print(f"next: python -m training quality --data {given.work / 'clean'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        name, first, second = sys.argv[2:5]
        STEPS[name](first, Path(second))
    else:
        main()
