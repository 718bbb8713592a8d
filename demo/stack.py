"""The local stack as a child process of the demo."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from souk import SyncClient

_HEALTHY_WITHIN_SECONDS = 150.0


class Stack:
    """`python -m services` on a port; the processes in it can be killed by name."""

    def __init__(self, home: Path, bundle: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.shop = f"127.0.0.1:{port}"
        self.embedder = f"127.0.0.1:{port + 1}"
        self.retriever = f"127.0.0.1:{port + 2}"
        self.coldstart = f"127.0.0.1:{port + 4}"
        self._bundle = bundle

    def __enter__(self) -> "Stack":
        command = [sys.executable, "-m", "services", "--home", str(self.home), "--bundle", str(self._bundle)]
        log = self.home / "stack.log"
        self.home.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=output, stderr=output, start_new_session=True
            )
        end = time.monotonic() + _HEALTHY_WITHIN_SECONDS
        try:
            while "souk search" not in log.read_text(errors="replace"):
                if self._child.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the stack did not start:\n{log.read_text(errors='replace')}")
                time.sleep(0.1)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            self._child.wait(60)

    def client(self) -> SyncClient:
        """A client of all its processes."""
        return SyncClient(
            self.shop, embedder=self.embedder, retriever=self.retriever, coldstart=self.coldstart, timeout=10
        )

    def kill(self, name: str) -> None:
        """Kills one process at once (SIGKILL); the stack will start it again."""
        pid = json.loads((self.home / "stack.json").read_text())[name]["pid"]
        os.kill(pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            self._child.wait()
