"""A stack of a load test's own, filled with a dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from demo.stack import Stack
from souk.dataset import find_table, read_events, read_items
from souk.ingest import wait_for_vectors, write_events, write_items


@contextmanager
def serving(bundle: Path, home: Path, gateway: str, dataset: Path, console: Console) -> Iterator[None]:
    """Runs a stack with its gateway at host:port `gateway`; a catalogue that is empty gets the items and events of the
    dataset first. Raises SystemExit with the stack's log where it does not start."""
    with Stack(home, bundle, int(gateway.rsplit(":", 1)[1])) as stack:
        with stack.client() as shop, Progress(console=console) as progress:
            if not shop.catalogue_info().items:
                write_items(shop, read_items(dataset), progress)
                if find_table(dataset, "events"):
                    write_events(shop, read_events(dataset), progress)
            wait_for_vectors(shop, progress)
        yield
