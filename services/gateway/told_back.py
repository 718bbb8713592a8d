"""Errors of the processes behind the gateway, as the shop's caller is told them."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from services.domain.checks import Invalid
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Overloaded,
    SoukError,
    Unavailable,
)

_KINDS: dict[grpc.StatusCode, type[SoukError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


@contextmanager
def told_back(owner: str) -> Iterator[None]:
    """Raises an AioRpcError of the block as Invalid or a SoukError of the same status; other codes as Unavailable."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            # The caller's filter is the first under a node that the gateway puts above it.
            field, _, problem = details.replace("filter.all.filters[0]", "filter", 1).partition(": ")
            raise Invalid(field, problem) from None
        raise _KINDS.get(error.code(), Unavailable)(f"{owner}: {details}") from None
