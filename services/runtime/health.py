"""`python -m services.runtime.health host:port`: ends with 0 where a process says that it serves, else with 1."""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 3.0


def problem(address: str) -> str | None:
    """Why the process at host:port cannot be relied on, None where it says that it serves; takes at most 3 s."""
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: list[str]) -> int:
    """The exit code; what is wrong goes to standard error."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m services.runtime.health host:port\n")
        return 1
    found = problem(arguments[0])
    if found is not None:
        sys.stderr.write(f"{arguments[0]}: {found}\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
