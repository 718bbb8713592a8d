"""The real processes over a catalogue that is filled once and kept: what is measured is what is served."""

import ctypes
import hashlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.progress import Progress

from services.domain.bundle import MANIFEST, read_bundle
from souk import SyncClient
from souk.ingest import wait_for_vectors, write_items
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2

KEPT = Path(".souk/evaluate")
"""Where catalogues are kept, each under the hash of its items and of the space that their vectors are of."""

_HEALTHY_WITHIN_SECONDS = 150.0
_DRAINED_WITHIN_SECONDS = 60.0
# The stack takes ports upwards from the gateway's, and the same again a thousand higher for metrics.
_PORTS = range(10)
_PR_SET_PDEATHSIG = 1


class StackError(RuntimeError):
    """The processes did not start, or did not take the items; the message says why."""


class Stack:
    """`python -m services` with a bundle on free ports of loopback. Use as a context: `client` talks to all of it."""

    def __init__(self, items: Sequence[types_pb2.Item], bundle: Path, kept: Path = KEPT) -> None:
        """Raises FileNotFoundError where there is no bundle, BundleError where it is not whole."""
        if not (bundle / MANIFEST).is_file():
            raise FileNotFoundError(f"{bundle}: no bundle; `make bundle` builds .souk/bundle, --bundle names another")
        self.bundle = read_bundle(bundle)
        self.home = kept / _key(items, self.bundle.manifest.encoder.space_version)
        self._items = items

    def __enter__(self) -> "Stack":
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = port = _free_port()
        command = [sys.executable, "-m", "services", "--home", str(self.home), "--bundle", str(self.bundle.path)]
        log = self.home / "stack.log"
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [*command, "--port", str(port)],
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        end = time.monotonic() + _HEALTHY_WITHIN_SECONDS
        # The last thing that it says once all are healthy.
        while "souk search" not in log.read_text(errors="replace"):
            if self._child.poll() is not None or time.monotonic() > end:
                self._end()
                raise StackError(f"the processes did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)
        self.client = SyncClient(
            f"127.0.0.1:{port}",
            embedder=f"127.0.0.1:{port + 1}",
            retriever=f"127.0.0.1:{port + 2}",
            coldstart=f"127.0.0.1:{port + 4}",
            timeout=30,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._end()

    def fill(self, progress: Progress) -> None:
        """Writes what the catalogue lacks and waits for the vectors; goes on where an earlier run was ended.

        Raises StackError where an item is refused.
        """
        if self.client.catalogue_info().items < len(self._items):
            for result in write_items(self.client, iter(self._items), progress):
                if result.outcome == admin_pb2.OUTCOME_INVALID:
                    raise StackError(f"item {result.item_id!r} was refused: {result.message}")
        wait_for_vectors(self.client, progress, seconds=12 * 3600)

    def _end(self) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            self._child.wait(_DRAINED_WITHIN_SECONDS)


def _end_with_parent() -> None:
    """Has Linux drain the stack when this process is killed: left behind, it would keep the catalogue from the next."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _key(items: Sequence[types_pb2.Item], space_version: str) -> str:
    rows = sorted(hashlib.sha256(item.SerializeToString(deterministic=True)).digest() for item in items)
    return hashlib.sha256(space_version.encode() + b"".join(rows)).hexdigest()[:16]


def _free_port() -> int:
    """A port that is free with those after it and those of their metrics. Raises StackError."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        if all(_is_free(port + offset + above) for offset in _PORTS for above in (0, 1000)):
            return port
    raise StackError("no ten free ports in a row between 20000 and 30000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
