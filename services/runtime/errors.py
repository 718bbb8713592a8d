"""The one mapping between what goes wrong in Souk and gRPC status."""

import grpc

from services.domain.checks import Invalid


class SoukError(Exception):
    """Something a caller may be told in words; each kind carries its status code."""

    code = grpc.StatusCode.INTERNAL


class NotFound(SoukError):
    """What was named does not exist. The caller should not repeat the call."""

    code = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(SoukError):
    """The process is not in a state for this call (a generation is not loaded, a follower is asked to write)."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Overloaded(SoukError):
    """The waiting room is full. The caller should back off."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(SoukError):
    """The process is starting, draining, or lacks something it needs. The caller may retry, best elsewhere."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(SoukError):
    """The caller's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Status and message for the caller. What is not meant for a caller becomes INTERNAL without details."""
    match error:
        case Invalid():
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
        case SoukError():
            return error.code, str(error)
        case TimeoutError():
            return grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed"
        case _:
            return grpc.StatusCode.INTERNAL, "internal error; the log has it under this request id"
