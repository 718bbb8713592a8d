"""Channels from one process of Souk to another, and the deadline a request hands on."""

import asyncio

import grpc.aio

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead peer is found within seconds, a restarted one at once.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def connect(address: str) -> grpc.aio.Channel:
    """A channel to host:port; connects when first used and again after a loss."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def time_left(context: grpc.aio.ServicerContext[object, object], at_most: float) -> float:
    """Seconds until the caller's deadline, and no more than `at_most`."""
    remaining = context.time_remaining()
    return at_most if remaining is None else max(0.0, min(remaining, at_most))


async def sleep_until_stopped(stopped: asyncio.Event, seconds: float) -> bool:
    """Waits; True as soon as `stopped` is set, False after the seconds."""
    try:
        await asyncio.wait_for(stopped.wait(), seconds)
    except TimeoutError:
        return False
    return True
