"""`python -m demo`: makes data and bundle, runs the stack as real processes, shows answers and checks each."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from demo.prepare import prepare
from demo.show import Show
from demo.stack import Stack

console = Console()


def main(
    data: Annotated[Path | None, typer.Option(help="A dataset directory; the generated shop if not given.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the answers; exit code 0 if all were sound.")] = False,
    home: Annotated[Path, typer.Option(help="Where the demo keeps its things.")] = Path(".souk/demo"),
    port: Annotated[int, typer.Option(help="Port of the gateway; the others follow.")] = 7100,
) -> None:
    """Shows Souk at work."""
    began = time.monotonic()
    shop = prepare(data, home, console)
    with Stack(shop.home, shop.bundle, port) as stack, Show(stack, shop, console) as show:
        show.fill()
        console.print(f"[bold]the shop is up after {time.monotonic() - began:.0f} s[/bold]\n")
        show.searches()
        show.filters_and_pages()
        show.similar_and_suggest()
        show.upsert()
        show.loss_of_the_embedder()
        show.loss_of_the_retriever()
        show.stages()
        sound = show.verdict()
        if once:
            raise typer.Exit(0 if sound else 1)
        console.print(f"\nThe shop stays up. In another terminal:\n{show.what_to_try()}\nCtrl-C ends it.")
        stack.wait()


if __name__ == "__main__":
    typer.run(main)
