"""Settings of the gateway."""

import secrets
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from services.runtime.settings import Address, OptionalAddress, Settings


class GatewaySettings(Settings):
    """Where the other processes are, and how an answer is put together."""

    service: ClassVar[str] = "gateway"

    port: int = Field(7100, ge=1, le=65535, description="Port of the shop's API.")
    metrics_port: int = Field(8100, ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    embedder: Address = Field("127.0.0.1:7101", description="host:port of the embedder.")
    retriever: Address = Field("127.0.0.1:7102", description="host:port of the retriever that takes writes.")
    followers: tuple[Address, ...] = Field(
        (), description="host:port of followers, asked when the primary fails (JSON)."
    )
    coldstart: OptionalAddress = Field(None, description="host:port of coldstart; absent: nobody's events are known.")
    ranker: OptionalAddress = Field(None, description="host:port of the ranker; absent: the order of the retrieval.")
    page_key: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_hex(32)),
        repr=False,
        min_length=16,
        description="Signs page tokens; give all gateways of a shop the same. Absent: a new one at every start.",
    )
    page_ttl_seconds: int = Field(600, ge=1, le=86400, description="How long a ranked list is kept for its next pages.")
    default_seconds: float = Field(2.0, gt=0, le=30, description="Time for an answer whose caller sets no deadline.")
    candidates: int = Field(200, ge=20, le=1000, description="Candidates per answer: all its pages come from them.")
    words_weight: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of words in the score of a search, the vector has the rest; absent: as the bundle states.",
    )
    rerank: int = Field(
        0, ge=0, le=200, description="Best candidates of a search that the bundle's reranker reads; 0: none."
    )
    held_lists: int = Field(
        1000, ge=0, le=100_000, description="Lists of searches for nobody known that are held for the next; 0: none."
    )
    held_list_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How long; a change of an item ends them within .1 s, a vector that is late not.",
    )
    explore_by: Literal["clicks", "ranker"] = Field(
        "clicks", description="What draws the new item to try: its own clicks and showings, or what the ranker expects."
    )
    explore_seed: int | None = Field(
        None,
        ge=0,
        description="Seed of the draws by what the ranker expects: the same requests in the same order draw the same; "
        "not given: any.",
    )
    new_days: float = Field(30.0, gt=0, le=36500, description="Age up to which an item is among the new arrivals.")
    out_of_stock: bool = Field(False, description="Show items that cannot be sold now.")
    running: int = Field(64, ge=1, le=10000, description="Requests that run at once.")
    waiting: int = Field(512, ge=0, le=100000, description="Requests that may wait; beyond it callers are refused.")
