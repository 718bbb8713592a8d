"""Brings a dataset into a running shop: items, events, and the wait for the items' vectors, with progress."""

import time
from collections.abc import Iterator
from itertools import islice

from rich.progress import Progress

from souk.client import SyncClient
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2

_ITEMS_AT_ONCE = 500
_EVENTS_AT_ONCE = 1000


def write_items(client: SyncClient, items: Iterator[types_pb2.Item], progress: Progress) -> list[admin_pb2.WriteResult]:
    """Writes all items, batch by batch; what became of each."""
    task = progress.add_task("writing items", total=None)
    results: list[admin_pb2.WriteResult] = []
    while batch := list(islice(items, _ITEMS_AT_ONCE)):
        results += client.upsert_items(batch, timeout=30)
        progress.update(task, completed=len(results))
    progress.update(task, total=len(results))
    return results


def write_events(client: SyncClient, events: Iterator[types_pb2.Event], progress: Progress) -> int:
    """Writes all events, batch by batch; how many were new."""
    task = progress.add_task("writing events", total=None)
    sent = new = 0
    while batch := list(islice(events, _EVENTS_AT_ONCE)):
        new += client.record_events(batch, timeout=30).accepted
        sent += len(batch)
        progress.update(task, completed=sent)
    progress.update(task, total=sent)
    return new


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
