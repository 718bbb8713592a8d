"""The life of a process: start, warm up, ready, drain on SIGTERM."""

import asyncio
import signal
import sys
from typing import Protocol

import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from services.runtime import telemetry
from services.runtime.channels import OPTIONS, sleep_until_stopped
from services.runtime.interceptor import Gate
from services.runtime.settings import Settings

_CHECK_EVERY_SECONDS = 1.0
_CHECK_TAKES_AT_MOST_SECONDS = 5.0
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Service(Protocol):
    """What a process serves."""

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the servicers; gives the full names of the proto services."""

    async def start(self) -> None:
        """Loads what is needed. An exception ends the process with exit code 1 and its message."""

    async def warm_up(self) -> None:
        """Sends real requests along the real path; an exception ends the process as in start."""

    async def check(self) -> None:
        """Raises when requests can no longer be answered; called every second, the health follows."""

    def drain(self) -> None:
        """Told once when draining begins: ends calls that would go on for ever, such as open streams."""

    async def stop(self) -> None:
        """Lets go of everything; every call under way has ended before."""


def run(service: Service, settings: Settings) -> None:
    """Runs the process until SIGTERM or SIGINT; exit code 0 after a clean drain, 1 when it could not start."""
    sys.exit(uvloop.run(_live(service, settings)))


async def _live(service: Service, settings: Settings) -> int:
    try:
        telemetry.start(settings)
    except OSError:
        return _fail(settings, f"{settings.host}:{settings.metrics_port} cannot be listened on; change metrics_port")
    log = telemetry.log.bind(service=settings.service)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    gate = Gate(settings.max_seconds)
    server = grpc.aio.server(interceptors=[gate], options=[*OPTIONS, ("grpc.so_reuseport", 0)])
    names = service.register(server)
    healths = health.HealthServicer()
    add_HealthServicer_to_server(healths, server)
    if settings.reflection:
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, "grpc.health.v1.Health"], server)
    try:
        server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        return _fail(settings, f"{settings.host}:{settings.port} cannot be listened on; change its host or port")

    async def tell(ready: bool) -> None:
        for name in ("", *names):
            await healths.set(name, _SERVING if ready else _NOT_SERVING)
        telemetry.READY.set(ready)

    await tell(False)
    await server.start()
    log.info("starting", address=f"{settings.host}:{settings.port}")
    try:
        if not await _start(service, stopped):
            return 0
        gate.open()
        await tell(True)
        log.info("ready")
        ready = True
        while not await sleep_until_stopped(stopped, _CHECK_EVERY_SECONDS):
            problem = await _problem(service)
            if (problem is None) != ready:
                ready = problem is None
                await tell(ready)
                log.warning("health changed", ready=ready, problem=problem)
        return 0
    except Exception as error:
        log.error("could not start", exc_info=error)
        return _fail(settings, f"{type(error).__name__}: {error}")
    finally:
        gate.close("draining")
        service.drain()
        await tell(False)
        # server.stop alone does not wait for every call (grpc issue 37239).
        await gate.wait_until_empty(settings.drain_seconds)
        await server.stop(grace=1.0)
        await service.stop()
        telemetry.stop()
        log.info("stopped")


async def _start(service: Service, stopped: asyncio.Event) -> bool:
    """Starts and warms up; False when told to stop before that was done."""

    async def steps() -> None:
        await service.start()
        await service.warm_up()

    starting = asyncio.create_task(steps())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    await asyncio.wait((starting,), timeout=5)
    return False


async def _problem(service: Service) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_TAKES_AT_MOST_SECONDS):
            await service.check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _fail(settings: Settings, message: str) -> int:
    sys.stderr.write(f"{settings.service}: {message}\n")
    return 1
