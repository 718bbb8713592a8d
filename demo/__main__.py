"""`python -m demo`: makes data and bundle, runs the stack as real processes, shows answers and checks each."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from demo.checks import Checks
from demo.prepare import prepare
from demo.search import SearchScenes
from demo.shoppers import ShopperScenes
from demo.stack import Stack
from souk.dataset import find_table


def main(
    data: Annotated[Path | None, typer.Option(help="A dataset directory; the generated shop if not given.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the answers; exit code 0 if all were sound.")] = False,
    home: Annotated[Path, typer.Option(help="Where the demo keeps its things.")] = Path(".souk/demo"),
    port: Annotated[int, typer.Option(help="Port of the gateway; the others follow.")] = 7100,
    minutes: Annotated[float, typer.Option(help="Budget of each training of the ranker.")] = 0.75,
) -> None:
    """Shows Souk at work."""
    for ending in (signal.SIGTERM, signal.SIGHUP):  # As Ctrl-C does: the stack must not outlive the demo.
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    console = Console()
    checks = Checks(console)
    shop = prepare(data, home, console)
    bundle = shop.bundle
    with Stack(shop.home, bundle, port) as stack, SearchScenes(stack, shop, checks) as search:
        search.fill()
        console.print(f"[bold]the shop can be searched after {time.monotonic() - began:.0f} s[/bold]\n")
        search.searches()
        search.filters_and_pages()
        search.similar_and_suggest()
        search.upsert()
        search.loss_of_the_embedder()
        search.loss_of_the_retriever()
        search.stages()
        if find_table(shop.dataset, "events"):
            with ShopperScenes(stack, shop, checks, minutes) as shoppers:
                shoppers.events()
                bundle = shoppers.learn()
    with Stack(shop.home, bundle, port) as stack:
        if bundle != shop.bundle:
            with ShopperScenes(stack, shop, checks, minutes) as shoppers:
                shoppers.recommendations()
                console.print(f"[bold]the shop knows its shoppers after {time.monotonic() - began:.0f} s[/bold]\n")
                shoppers.an_event_counts_at_once()
                shoppers.a_new_item()
                shoppers.offers()
                shoppers.the_next_models()
                shoppers.forget()
        sound = checks.verdict()
        if once:
            raise typer.Exit(0 if sound else 1)
        address = "" if port == 7100 else f" --shop {stack.shop}"
        console.print(
            "\nThe shop stays up. In another terminal:\n"
            f"  .venv/bin/souk search 'something to sit on' --explain{address}\n"
            f"  .venv/bin/souk recommend --shopper me --explain{address}\n"
            f"  .venv/bin/souk suggest 'sof'{address}\n"
            "  .venv/bin/souk status\n"
            f"  cat {stack.home / 'stack.json'}   # kill one of them and search again\n"
            "Ctrl-C ends it."
        )
        stack.wait()


if __name__ == "__main__":
    typer.run(main)
