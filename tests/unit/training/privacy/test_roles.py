"""What a role owns only its keys decrypt, and everybody else's leave as it is."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from training.cli import app
from training.data.canonical import DatasetWriter, Info, open_dataset
from training.privacy.keys import BadKey, new_key
from training.privacy.roles import read_roles

ROLES = """
[support]
key_file = "support.keys"
fields = ["email"]
[analyst]
key_file = "analyst.keys"
fields = ["query", "country"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "shop", Info("toy", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "A"}])
        told = {"email": ["jo@shop.com"], "country": ["DE"], "note": ["call jo@shop.com"]}
        writer.write("shoppers", [{"shopper_id": "anna", "attributes": json.dumps(told)}])
        event = {"event_id": "e1", "shopper_id": "anna", "type": "SEARCH", "query": "kettle"}
        writer.write("events", [event | {"time": "2026-02-20T00:00:00Z"}])
    for name in ("owner", "support", "analyst"):
        new_key(tmp_path / f"{name}.keys")
    (tmp_path / "roles.toml").write_text(ROLES)
    return tmp_path


def command(home: Path, name: str, data: str, out: str, keys: str, *more: str) -> Result:
    given = ["--data", str(home / data), "--out", str(home / out), "--key-file", str(home / f"{keys}.keys"), *more]
    return CliRunner().invoke(app, ["privacy", name, *given], env={"COLUMNS": "400"})


def read(home: Path, name: str) -> dict[str, str]:
    dataset = open_dataset(home / name)
    attributes = json.loads(dataset.shoppers()["attributes"][0])
    return {name: values[0] for name, values in attributes.items()} | {"query": dataset.events()["query"][0]}


def test_each_role_reads_what_it_owns_and_nothing_else(home: Path) -> None:
    command(home, "pseudonymise", "shop", "shared", "owner", "--roles", str(home / "roles.toml"))
    shared = read(home, "shared")
    assert shared["note"] == "call [EMAIL]"
    assert all(shared[name].startswith("enc:") for name in ("email", "country", "query"))
    told = command(home, "decrypt", "shared", "of-analyst", "analyst").output
    assert "not for these keys, still encrypted: 1 of email" in told
    plain = {"email": "jo@shop.com", "country": "DE", "query": "kettle", "note": "call [EMAIL]"}
    assert read(home, "of-analyst") == plain | {"email": shared["email"]}
    command(home, "decrypt", "shared", "of-support", "support")
    assert read(home, "of-support") == shared | {"email": "jo@shop.com"}
    # Nor can the one who made the pseudonyms, who has neither key.
    said = command(home, "decrypt", "shared", "no", "owner")
    assert said.exit_code == 2
    assert "nothing can be read: it was encrypted with" in said.output
    assert not (home / "no").exists()
    command(home, "decrypt", "of-analyst", "all", "support")
    assert read(home, "all") == plain


def test_what_no_role_owns_is_encrypted_with_the_owners_key(home: Path) -> None:
    command(home, "encrypt", "shop", "hidden", "owner", "--roles", str(home / "roles.toml"))
    command(home, "decrypt", "hidden", "of-owner", "owner")
    before, after = read(home, "hidden"), read(home, "of-owner")
    assert after == before | {"note": "call jo@shop.com"}
    assert after["email"].startswith("enc:")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[support]\nkey_file = 'support.keys'\n", r"\[support\] must hold key_file and fields, and nothing else"),
        ("support = 3\n", r"\[support\] must hold key_file and fields"),
        ("[support]\nkey_file = 'support.keys'\nfields = 'email'\n", r"key_file must be a text and fields a list"),
        (ROLES.replace('"query"', '"email"'), r"\[analyst\] email has another owner already"),
        (ROLES.replace("analyst.keys", "support.keys"), r"\[analyst\] has a key of \[support\] in support.keys"),
        ("[support\n", "roles.toml: "),
    ],
)
def test_a_fault_in_the_roles_is_told(home: Path, text: str, told: str) -> None:
    (home / "roles.toml").write_text(text)
    with pytest.raises(BadKey, match=told):
        read_roles(home / "roles.toml")


def test_keys_that_others_may_read_serve_no_role(home: Path) -> None:
    (home / "support.keys").chmod(0o640)
    with pytest.raises(BadKey, match="others may read it"):
        read_roles(home / "roles.toml")
