"""What is wrong with the settings is told before anything starts, and told without what must stay secret."""

from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from services.runtime.settings import load


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SOUK_GATEWAY_PAGE_KEY", "hunter2-secret", "SOUK_GATEWAY_PAGE_KEY: Value should have at least 16"),
        ("SOUK_REDIS_URL", "me:hunter2-secret@redis:6379/0", "SOUK_GATEWAY_REDIS_URL: String should match"),
    ],
)
def test_a_wrong_secret_is_named_and_not_shown(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        load(GatewaySettings)
    told = capsys.readouterr().err
    assert words in told
    assert "hunter2" not in told


@pytest.mark.parametrize("text", ["[gatway]\nport = 7200\n", "gateway = 3\n", "port = 7200\n"])
def test_what_no_process_would_read_in_the_file_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "souk.toml"
    file.write_text(text)
    monkeypatch.setenv("SOUK_CONFIG", str(file))
    with pytest.raises(SystemExit, match="2"):
        load(GatewaySettings)
    assert f"'{text.strip('[').split()[0].strip(']')}' is no table of settings" in capsys.readouterr().err


def test_a_file_with_a_table_for_every_process_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "souk.toml"
    file.write_text('[shared]\nlog_level = "debug"\n[gateway]\nport = 7200\n[ranker]\nport = 7203\n')
    monkeypatch.setenv("SOUK_CONFIG", str(file))
    settings = load(GatewaySettings)
    assert (settings.port, settings.log_level) == (7200, "debug")


@pytest.mark.parametrize(
    "address",
    ["embedder", "embedder:", ":7101", "embedder:70000", "embedder:71o1", "http://embedder:7101", "a b:1", "a:0"],
)
@pytest.mark.parametrize("name", ["SOUK_GATEWAY_EMBEDDER", "SOUK_GATEWAY_RANKER", "SOUK_GATEWAY_FOLLOWERS"])
def test_an_address_that_is_none_is_named(
    name: str, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, f'["{address}"]' if name.endswith("FOLLOWERS") else address)
    with pytest.raises(SystemExit, match="2"):
        load(GatewaySettings)
    told = capsys.readouterr().err
    assert f"{name}: Value error, must be host:port, the port from 1 to 65535" in told
    assert repr(address) in told


@pytest.mark.parametrize(
    "address", ["embedder:7101", "10.0.0.1:65535", "[::1]:7101", "unix:/run/embedder", "dns:///e:1"]
)
def test_addresses_as_grpc_reads_them(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUK_GATEWAY_EMBEDDER", address)
    assert load(GatewaySettings).embedder == address


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUK_GATEWAY_RANKER", "")
    assert load(GatewaySettings).ranker is None
