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
