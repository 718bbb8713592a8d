"""Settings of coldstart."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.runtime.settings import Settings


class ColdstartSettings(Settings):
    """What coldstart needs beside what every process needs."""

    service: ClassVar[str] = "coldstart"

    port: int = Field(7104, ge=1, le=65535, description="Port of the gRPC server.")
    metrics_port: int = Field(8104, ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    data: Path = Field(Path(".souk/coldstart"), description="Directory of the log, for this process alone.")
    hot_events: int = Field(5, ge=1, le=256, description="Events that make a shopper or an item HOT.")
    half_life_days: float = Field(30.0, gt=0, description="Age at which an event counts half.")
    new_days: float = Field(30.0, gt=0, description="How long an item is new after it was first offered.")
    explore_position: int = Field(4, ge=0, le=999, description="Place in an answer that is kept for exploration.")
    explore: bool = Field(True, description="Whether a place is kept for new items; without, nothing is drawn.")
    explore_seed: int | None = Field(
        None,
        ge=0,
        description="Seed of the draws, so that the same requests in the same order draw the same; not given: any.",
    )
    state_ttl: int = Field(1800, ge=1, description="Seconds that a shopper's derived state lives in memory and Redis.")
    state_memory_mb: int = Field(32, ge=0, description="MiB of shoppers' derived states in memory; 0 keeps none.")
    max_queued: int = Field(20_000, ge=1_000, description="Events and impressions that may wait to be written.")
    max_running: int = Field(32, ge=1, description="Reads that may run at once.")
    max_waiting: int = Field(512, ge=0, description="Reads that may wait before the gate.")
