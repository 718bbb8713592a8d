"""Settings of the retriever."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.runtime.settings import Address, OptionalAddress, Settings


class RetrieverSettings(Settings):
    """What the retriever needs beside what every process needs."""

    service: ClassVar[str] = "retriever"

    port: int = Field(7102, ge=1, le=65535, description="Port of the gRPC server.")
    metrics_port: int = Field(8102, ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    data: Path = Field(Path(".souk/catalogue"), description="Directory of the catalogue, for this process alone.")
    snapshots: Path = Field(Path(".souk/snapshots"), description="Directory that snapshots are written to.")
    keep_snapshots: int = Field(3, ge=1, le=1000, description="How many snapshots to keep; older ones are removed.")
    restore: Path | None = Field(
        None, description="A snapshot, or a directory of them, to begin with where `data` holds no catalogue yet."
    )
    primary: OptionalAddress = Field(None, description="host:port of the primary; set, this process is its follower.")
    embedder: Address = Field("127.0.0.1:7101", description="host:port of the embedder that makes the items' vectors.")
    coldstart: OptionalAddress = Field(
        None,
        description="host:port of the coldstart that is told of every item and makes the behaviour vectors; unset, "
        "there are none. A follower has them from its primary.",
    )
    max_queued_items: int = Field(20_000, ge=1_000, description="Items that may wait to be written.")
    max_running: int = Field(16_384, ge=1_024, description="Candidates that may be searched for at once.")
    max_waiting: int = Field(65_536, ge=0, description="Candidates whose search may wait before the gate.")
