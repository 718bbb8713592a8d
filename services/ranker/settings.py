"""Settings of the ranker."""

from typing import ClassVar, Literal

from pydantic import Field

from services.runtime.settings import Address, Settings


class RankerSettings(Settings):
    """What the ranker needs beside what every process needs."""

    service: ClassVar[str] = "ranker"

    port: int = Field(7103, ge=1, le=65535, description="Port of the gRPC server.")
    metrics_port: int = Field(8103, ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    provider: str = Field("CPUExecutionProvider", description="Where the models run, as ONNX Runtime names it.")
    retriever: Address = Field(
        "127.0.0.1:7102", description="host:port of the retriever that holds the items' vectors."
    )
    vector_seconds: float = Field(0.25, gt=0, le=10, description="Longest wait for vectors; then it goes on without.")
    vector_rows: int = Field(20_000, ge=1, description="Item vectors kept in memory; below the catalogue's size.")
    shopper_rows: int = Field(10_000, ge=1, description="Shoppers' vectors kept in memory.")
    rerank_seconds: float = Field(
        0.3, gt=0, le=10, description="Longest reading of a search's candidates; never over half of its time left."
    )
    max_boost: float = Field(1.5, ge=1, le=3, description="Most that an item's own boost multiplies or divides by.")
    diversity: Literal["mmr", "dpp"] = Field("mmr", description="How what is alike is kept apart: pairs, or the list.")
    brand_share: float = Field(1.0, gt=0, le=1, description="Most of any ten places that one brand may have.")
    supplier_share: float = Field(1.0, gt=0, le=1, description="Most of any ten places that one supplier may have.")
    sponsored_share: float = Field(0.5, gt=0, le=1, description="The same for each of both among paid places.")
    max_candidates: int = Field(1_000, ge=1, le=10_000, description="Candidates a request may hold.")
    max_running: int = Field(10_000, ge=10_000, description="Candidates that may be ranked at once.")
    max_waiting: int = Field(20_000, ge=0, description="Candidates that may wait before the gate.")
