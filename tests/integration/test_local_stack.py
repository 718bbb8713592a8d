"""`python -m services` and the command line, as a newcomer uses them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from souk import SyncClient
from tests.integration.processes import REPOSITORY
from tests.integration.shops import until
from tests.ports import free_port

SOUK = Path(sys.executable).with_name("souk")
ITEMS = """item_id,title,brand,category,price,currency,stock
mug-1,red mug,Acme,Home > Mugs,4.5,EUR,3
mug-2,blue mug,Corvid,Home > Mugs,5.5,EUR,9
lamp-1,desk lamp,Acme,Home > Lamps,30,EUR,2
"""


class Stack:
    def __init__(self, home: Path, bundle: Path) -> None:
        self.port = free_port()
        self.home = home
        self.child = subprocess.Popen(
            [sys.executable, "-m", "services", "--home", home, "--bundle", bundle, "--port", str(self.port)],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addresses = {
            name: f"127.0.0.1:{self.port + i}"
            for i, name in enumerate(("gateway", "embedder", "retriever", "ranker", "coldstart"))
        }
        self.client = SyncClient(
            self.addresses["gateway"],
            embedder=self.addresses["embedder"],
            retriever=self.addresses["retriever"],
            coldstart=self.addresses["coldstart"],
        )

    def souk(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        env = os.environ | {f"SOUK_{n.upper().replace('GATEWAY', 'SHOP')}": a for n, a in self.addresses.items()}
        return subprocess.run(
            [SOUK, *arguments], env=env | {"COLUMNS": "160"}, capture_output=True, text=True, input=input, timeout=60
        )


@pytest.fixture(scope="module")
def stack(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    one = Stack(home, bundle)
    until((home / "stack.json").is_file, 60)
    until(lambda: bool(one.client.catalogue_info().generation), 60)
    until(lambda: bool(one.client.encoder_info().generation), 60)
    (home / "items.csv").write_text(ITEMS)
    done = one.souk("ingest", str(home / "items.csv"))
    assert done.returncode == 0, done.stderr
    assert "3 created" in done.stdout
    yield one
    one.client.close()
    if one.child.poll() is None:
        one.child.terminate()
        one.child.wait(60)


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_search_prints_a_table_and_json(stack: Stack) -> None:
    table = stack.souk("search", "red mug")
    assert "red mug" in table.stdout
    assert "embed" in table.stdout
    found = answer(stack.souk("search", "red mug", "--json"))
    assert found["hits"][0]["itemId"] == "mug-1"


def test_search_takes_filters(stack: Stack) -> None:
    found = answer(stack.souk("search", "mug", "--brand", "Corvid", "--max-price", "20", "--json"))
    assert [hit["itemId"] for hit in found["hits"]] == ["mug-2"]
    found = answer(stack.souk("search", "mug", "--category", "Home > Lamps", "--json"))
    assert [hit["itemId"] for hit in found["hits"]] == ["lamp-1"]


def test_similar_suggest_item_and_status(stack: Stack) -> None:
    assert answer(stack.souk("similar", "mug-1", "--json"))["hits"][0]["itemId"] == "mug-2"
    assert answer(stack.souk("item", "mug-1"))["brand"] == "Acme"
    assert stack.souk("suggest", "mu").returncode == 0
    status = answer(stack.souk("status", "--json"))
    assert status["retriever"]["items"] == "3"
    assert "primary" in stack.souk("status").stdout


def test_ingest_again_changes_nothing_and_bad_rows_are_told(stack: Stack) -> None:
    again = stack.souk("ingest", str(stack.home / "items.csv"))
    assert "3 unchanged" in again.stdout
    bad = stack.home / "bad.csv"
    bad.write_text("item_id,title,price,currency\ngood,a good thing,1,EUR\nbad,a bad thing,cheap,EUR\n,no id,1,EUR\n")
    done = stack.souk("ingest", str(bad))
    assert done.returncode == 1
    assert "1 created" in done.stdout
    assert "bad.csv" in done.stderr
    assert "price" in done.stderr


def test_recommend_event_and_shopper(stack: Stack) -> None:
    def known() -> str:
        return str(answer(stack.souk("recommend", "--shopper", "42", "--scene", "home", "--json"))["stage"])

    assert known() == "STAGE_COLD"
    told = ("event", "--shopper", "42", "--type", "view", "--item", "mug-1", "--event-id", "e-1")
    assert "1 written" in stack.souk(*told).stdout
    assert "1 known already" in stack.souk(*told).stdout
    assert known() == "STAGE_WARM"
    assert "stage warm" in stack.souk("shopper", "show", "42").stdout
    parts = answer(stack.souk("shopper", "show", "42", "--json"))
    assert [part["event"]["itemId"] for part in parts if "event" in part] == ["mug-1"]
    assert "1 events" in stack.souk("shopper", "forget", "42").stdout
    assert "NOT_FOUND" in stack.souk("shopper", "show", "42").stderr
    about = answer(stack.souk("recommend", "--scene", "similar", "--item", "mug-1", "--json"))
    assert about["hits"][0]["itemId"] == "mug-2"


def test_admin_changes_the_models(stack: Stack, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "next")
    manifest = tmp_path / "next/manifest.json"
    manifest.write_text(manifest.read_text().replace('"created_at": "', '"created_at": "later, '))
    old = answer(stack.souk("search", "red mug", "--json"))["info"]["generation"]
    prepared = stack.souk("admin", "prepare", str(tmp_path / "next")).stdout
    new = prepared.split()[1]
    assert f"next: souk admin switch {new}" in prepared
    assert f"next: souk admin retire {old}" in stack.souk("admin", "switch", new).stdout
    assert answer(stack.souk("search", "red mug", "--json"))["info"]["generation"] == new
    assert "FAILED_PRECONDITION" in stack.souk("admin", "retire", new).stderr
    assert stack.souk("admin", "retire", old).returncode == 0
    listed = stack.souk("admin", "list").stdout
    assert new in listed
    assert old not in listed
    assert "NOT_FOUND" in stack.souk("admin", "prepare", "/no/such/bundle").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "mug", "--page", "nonsense"), "INVALID_ARGUMENT: page_token"),
        (("similar", "nothing"), "NOT_FOUND"),
        (("search", "mug", "--attribute", "red"), "NAME=VALUE"),
        (("ingest", "/no/such/file.csv"), "no such file"),
        (("recommend", "--scene", "attic"), "it must be one of search, home"),
        (("event", "--shopper", "42", "--type", "view"), "INVALID_ARGUMENT: events[0].item_id"),
    ],
)
def test_mistakes_are_told_and_change_the_exit_code(stack: Stack, arguments: tuple[str, ...], words: str) -> None:
    done = stack.souk(*arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("same", ["port", "home"])
def test_a_second_stack_in_the_place_of_the_first_is_refused(
    stack: Stack, bundle: Path, tmp_path: Path, same: str
) -> None:
    home = stack.home if same == "home" else tmp_path
    port = stack.port if same == "port" else free_port()
    done = subprocess.run(
        [sys.executable, "-m", "services", "--home", home, "--bundle", bundle, "--port", str(port)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert ("cannot be listened on" if same == "port" else f"{home}: another stack") in done.stderr
    assert f"--{same}" in done.stderr
    assert (stack.home / "stack.json").is_file()


def test_a_process_that_cannot_start_says_why_in_plain_words(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "catalogue").write_text("a file where a directory belongs")
    done = subprocess.run(
        [sys.executable, "-m", "services", "--home", tmp_path, "--bundle", bundle, "--port", str(free_port())],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "retriever ended at its start" in done.stderr
    assert "SOUK_RETRIEVER_DATA must name a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_dies_is_started_again_and_the_catalogue_is_there(stack: Stack) -> None:
    def pids() -> dict[str, int]:
        return {name: one["pid"] for name, one in json.loads((stack.home / "stack.json").read_text()).items()}

    before = pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(before.values()) & set(pids().values()))

    def whole() -> bool:
        found = stack.client.search("red mug")
        return bool(found.hits) and found.hits[0].item_id == "mug-1" and not found.info.degradations

    until(whole, 60)


def test_sigterm_drains_everything(stack: Stack) -> None:
    pids = [one["pid"] for one in json.loads((stack.home / "stack.json").read_text()).values()]
    stack.child.terminate()
    assert stack.child.wait(60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    for name in ("embedder", "retriever", "gateway"):
        assert '"event": "stopped"' in (stack.home / "logs" / f"{name}.log").read_text().splitlines()[-1]


def test_without_a_bundle_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services", "--home", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "make bundle" in done.stderr
