"""The breaker of a process behind the gateway, against a real server that comes and goes."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from services.gateway import peer as module
from services.gateway.peer import Peer
from services.gateway.stages import StageFailed
from tests.ports import free_port


async def _well(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def _ill(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    raise AssertionError


async def _serve(address: str, method: Callable[..., Awaitable[bytes]]) -> grpc.aio.Server:
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(method)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Ask": handler}),))
    server.add_insecure_port(address)
    await server.start()
    return server


async def _ask(peer: Peer) -> bytes:
    return await peer.call(peer.channel.unary_unary("/test/Ask"), b"hello", 5)


async def _lose(peer: Peer) -> None:
    """Calls until the breaker is open."""
    for _ in range(4):
        with pytest.raises(grpc.aio.AioRpcError):
            await _ask(peer)
    with pytest.raises(StageFailed, match="not asked"):
        await _ask(peer)


async def _connected(peer: Peer) -> None:
    async with asyncio.timeout(20):
        while (state := peer.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await peer.channel.wait_for_state_change(state)


@pytest.fixture(autouse=True)
def long_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN_SECONDS", 3600.0)


def test_it_is_asked_again_as_soon_as_it_is_connected_again() -> None:
    async def run() -> None:
        address = f"127.0.0.1:{free_port()}"
        peer = Peer("retriever", address)
        await _lose(peer)
        server = await _serve(address, _well)
        await _connected(peer)
        assert await _ask(peer) == b"hello"
        await peer.channel.close()
        await server.stop(None)

    asyncio.run(run())


def test_one_that_is_connected_and_fails_is_left_alone() -> None:
    async def run() -> None:
        address = f"127.0.0.1:{free_port()}"
        server = await _serve(address, _ill)
        peer = Peer("retriever", address)
        await _lose(peer)
        await _connected(peer)
        with pytest.raises(StageFailed, match="not asked"):
            await _ask(peer)
        await peer.channel.close()
        await server.stop(None)

    asyncio.run(run())


@pytest.mark.parametrize(("patience", "lost"), [(0.15, False), (0.3, True)])
def test_callers_that_hang_up_cost_the_others_nothing(patience: float, lost: bool) -> None:
    async def slow(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.sleep(3600)
        return request

    async def run() -> None:
        address = f"127.0.0.1:{free_port()}"
        server = await _serve(address, slow)
        peer = Peer("retriever", address)
        await _connected(peer)
        for _ in range(4):
            # Where it is the stage's time that ended, the peer had its chance.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(patience):
                    await peer.call(peer.channel.unary_unary("/test/Ask"), b"hello", 1.05 * patience if lost else 30)
        refused = StageFailed if lost else TimeoutError
        with pytest.raises(refused):
            async with asyncio.timeout(patience):
                await peer.call(peer.channel.unary_unary("/test/Ask"), b"hello", 30)
        await peer.channel.close()
        await server.stop(None)

    asyncio.run(run())
