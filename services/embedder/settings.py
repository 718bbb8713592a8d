"""Settings of the embedder."""

from typing import ClassVar

from pydantic import Field

from services.runtime.settings import Settings


class EmbedderSettings(Settings):
    """What the embedder needs beside what every process needs."""

    service: ClassVar[str] = "embedder"

    port: int = Field(7101, ge=1, le=65535, description="Port of the gRPC server.")
    metrics_port: int = Field(8101, ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    provider: str = Field(
        "auto",
        description="What the model runs on: a provider as ONNX Runtime names it; OpenVINO: batches in bfloat16 on a "
        "CPU that has it; auto: OpenVINO where that can be had and gives the same vectors, else CPUExecutionProvider.",
    )
    max_batch: int = Field(256, ge=1, le=4096, description="Inputs a request may hold.")
    max_pending_tokens: int = Field(65_536, ge=512, description="Tokens that may wait or run at once.")
    batch_tokens: int = Field(1024, ge=64, description="Tokens computed at once, padding included; on a GPU more.")
    cache_rows: int = Field(50_000, ge=0, description="Query vectors kept in memory; 0 switches their cache off.")
