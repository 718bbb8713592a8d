"""What the command line says where there is nothing to show."""

import socket

from typer.testing import CliRunner

from souk.cli import app


def test_an_address_where_nothing_listens_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        ended = CliRunner().invoke(app, ["search", "mug", "--shop", address])
    assert ended.exit_code == 1
    assert f"nothing answers at {address}" in ended.stderr


def test_the_other_processes_are_looked_for_beside_the_gateway_that_was_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 1
        # The embedder is asked first; a gateway is not asked at all.
        ended = CliRunner().invoke(app, ["status", "--shop", f"127.0.0.1:{port}"], env={"SOUK_EMBEDDER": ""})
        assert ended.exit_code == 1
        assert f"nothing answers at 127.0.0.1:{port + 1}" in ended.stderr
        told = CliRunner().invoke(app, ["status", "--shop", "127.0.0.1:1", "--embedder", f"127.0.0.1:{port + 1}"])
        assert f"nothing answers at 127.0.0.1:{port + 1}" in told.stderr


def test_an_address_without_a_port_is_refused() -> None:
    ended = CliRunner().invoke(app, ["search", "mug", "--shop", "shop"])
    assert ended.exit_code == 2
    assert "must be host:port" in ended.stderr
