"""Every metric and span name of Souk, request ids, logs and traces."""

import logging
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from services.runtime.settings import Settings
from souk.types.v1 import types_pb2

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# Every process.
CALLS = Counter("souk_calls", "Calls answered.", ["method", "code"])
CALL_SECONDS = Histogram("souk_call_seconds", "Time from arrival to answer.", ["method"], buckets=_SECONDS)
CALLS_OPEN = Gauge("souk_calls_open", "Calls under way.")
READY = Gauge("souk_ready", "1 while the process can answer.")
WORK = Gauge("souk_work", "Units of work admitted or before the gate.", ["gate", "state"])
REFUSED = Counter("souk_work_refused", "Calls refused for lack of room.", ["gate"])
STAGE_SECONDS = Histogram("souk_stage_seconds", "Time of one stage of a request.", ["stage"], buckets=_SECONDS)
DEGRADATIONS = Counter("souk_degradations", "Stages that something stood in for.", ["stage", "reason"])

# Caches of vectors; levels: memory, redis, source, absent (remembered absences).
CACHE_HITS = Counter("souk_cache_hits", "Keys a level answered.", ["cache", "level"])
CACHE_MISSES = Counter("souk_cache_misses", "Keys a level was asked for and did not hold.", ["cache", "level"])
CACHE_EVICTIONS = Counter("souk_cache_evictions", "Vectors evicted from memory.", ["cache"])
CACHE_BYTES = Gauge("souk_cache_bytes", "Bytes of vectors held in memory.", ["cache"])
CACHE_REDIS_ERRORS = Counter(
    "souk_cache_redis_errors", "Calls of Redis that failed or were skipped.", ["cache", "kind"]
)
CACHE_DROPPED = Counter("souk_cache_writes_dropped", "Vectors not written back to Redis.", ["cache"])

# Embedder; stages: tokenise, inference.
EMBED_QUEUED = Gauge("souk_embed_queued", "Inputs waiting for a batch.", ["stage"])
EMBED_BATCH_SIZE = Histogram(
    "souk_embed_batch_size", "Inputs of a batch.", ["stage"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
EMBED_BATCH_SECONDS = Histogram("souk_embed_batch_seconds", "Compute of a batch.", ["stage"], buckets=_SECONDS)
EMBED_DROPPED = Counter("souk_embed_dropped", "Inputs dropped before the compute.", ["stage", "reason"])
EMBED_FAILED_BATCHES = Counter("souk_embed_failed_batches", "Batches whose compute failed.", ["stage"])
EMBED_TOKENS = Counter("souk_embed_tokens", "Tokens computed, padding aside.")
EMBED_PADDING = Counter("souk_embed_padding_tokens", "Tokens of padding computed beside them.")

# Retriever: the catalogue, its vectors and its followers.
CATALOGUE_SEQUENCE = Gauge("souk_catalogue_sequence", "Sequence number of the last change committed.")
CATALOGUE_QUEUED = Gauge("souk_catalogue_queued_items", "Items waiting to be written.")
CATALOGUE_COMMIT_SECONDS = Histogram("souk_catalogue_commit_seconds", "Time of one commit.", buckets=_SECONDS)
CATALOGUE_COMMIT_CHANGES = Histogram(
    "souk_catalogue_commit_changes", "Changes of one commit.", buckets=(1, 4, 16, 64, 256, 1024, 4096)
)
VECTORS_MADE = Counter("souk_vectors_made", "Item vectors made and kept.", ["covered"])
VECTOR_FAILURES = Counter("souk_vector_failures", "Batches of items that could not be embedded.", ["code"])
ITEMS_PROFILED = Counter("souk_items_profiled", "Items that coldstart was told of.")
PROFILE_FAILURES = Counter("souk_profile_failures", "Batches of items that coldstart could not be told of.", ["code"])
FOLLOWER_LAG = Gauge("souk_follower_lag_changes", "Changes of the primary not yet applied here.")

# Coldstart: the log and what is derived from it.
LOG_QUEUED = Gauge("souk_log_queued_entries", "Events and impressions waiting to be written.")
LOG_COMMIT_SECONDS = Histogram("souk_log_commit_seconds", "Time of one commit of the log.", buckets=_SECONDS)
LOG_SEQUENCE = Gauge("souk_log_sequence", "Sequence number of the last entry committed.")
REVIEW_QUEUED = Gauge("souk_review_queued", "Decisions of people waiting to be written.")
REVIEW_COMMIT_SECONDS = Histogram("souk_review_commit_seconds", "Time of one commit of decisions.", buckets=_SECONDS)
LOG_EVENTS = Counter("souk_log_events", "Events by what became of them.", ["outcome"])
CONTEXTS = Counter("souk_contexts", "Shopper contexts by where they came from.", ["source"])

# Ranker.
RANK_MISSING = Counter("souk_rank_missing_vectors", "Item vectors that a ranking went without.", ["reason"])

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")
request_id: ContextVar[str] = ContextVar("request_id", default="")

log: structlog.stdlib.BoundLogger = structlog.get_logger()
tracer = trace.get_tracer("souk")


def start(settings: Settings) -> None:
    """Logs, metrics page and traces of a process."""
    structlog.configure(
        processors=[
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.clear_contextvars()
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host)
    if settings.otlp_endpoint:
        provider = TracerProvider(
            resource=Resource.create({"service.name": settings.service}),
            sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
        )
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=True, timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        trace.set_tracer_provider(provider)


def stop() -> None:
    """Sends what traces are left."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def _add_request_id(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if current := request_id.get():
        event["request_id"] = current
    return event


def accept_request_id(offered: str | None) -> str:
    """The caller's request id if it is well formed (1 to 64 printable ASCII characters), else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def outgoing() -> list[tuple[str, str]]:
    """Metadata for a call to another process: the request id and the trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return [(REQUEST_ID_KEY, request_id.get()), *headers.items()]


@dataclass
class StageClock:
    """Times the stages of one request; each is also a span and an observation of souk_stage_seconds."""

    _began: float = field(default_factory=time.perf_counter)
    _timings: list[types_pb2.StageTiming] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block under a name from a fixed set."""
        start = time.perf_counter()
        try:
            with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            self.add(name, start, time.perf_counter())

    def add(self, name: str, start: float, end: float) -> None:
        """Adds a stage measured elsewhere, in seconds of time.perf_counter()."""
        STAGE_SECONDS.labels(name).observe(end - start)
        self._timings.append(
            types_pb2.StageTiming(
                stage=name,
                start_us=max(0, int((start - self._began) * 1e6)),
                duration_us=max(0, int((end - start) * 1e6)),
            )
        )

    def timings(self) -> list[types_pb2.StageTiming]:
        """What was timed so far, in the order it ended."""
        return self._timings
