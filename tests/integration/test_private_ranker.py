"""A ranker with private heads, from the command to real processes: it orders, keeps its promise in writing, and leaves
the new item to coldstart, since it does not say how unsure it is."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from souk import SyncClient
from souk.coldstart.v1 import coldstart_pb2
from souk.dataset import read_events, read_items
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.types.v1 import types_pb2
from tests.integration.processes import REPOSITORY, spawn
from tests.integration.shops import Shop, until
from tests.ports import free_port
from tests.unit.ranker import tiny
from training.data.generate import generate

HOME = types_pb2.SCENE_HOME


def training(*arguments: object) -> str:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_private_heads_are_served(bundle: Path, redis_url: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = tmp_path / "data"
    generate(data, items=250, shoppers=120, seed=3)
    (tmp_path / "small.toml").write_text("dim = 16\nepochs = 2\n")
    where = ("--dataset", data, "--bundle", bundle, "--cache", tmp_path / "content")
    settings = ("--epsilon", 3, "--config", tmp_path / "small.toml")
    said = training("train", "ranker", *where, *settings, "--out", tmp_path / "ranker")
    card = json.loads((tmp_path / "ranker" / "ranker.json").read_text())
    promised = card["privacy"]
    assert 2.9 < promised["epsilon"] <= 3
    assert f"epsilon {promised['epsilon']:.2f}, delta {promised['delta']:.1e}" in said
    assert promised["covers"] in said
    assert promised["leaves_out"] in said
    training("bundle", "--encoder", bundle, "--ranker", tmp_path / "ranker", "--out", tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["metrics"]["ranker.epsilon"] <= 3

    items = list(read_items(data))
    for item in items[::5]:
        item.created_at.GetCurrentTime()
    with Shop(tmp_path / "bundle", tmp_path / "shop", redis_url, coldstart=True, ranker=True) as shop:
        shop.fill(items)
        events = [event for event in read_events(data) if event.item_id][:400]
        regular = max({one.shopper_id for one in events}, key=lambda one: sum(e.shopper_id == one for e in events))
        shop.client.record_events(events)
        until(lambda: shop.client.recommend(HOME, shopper_id=regular).stage == types_pb2.STAGE_HOT)
        answer = shop.client.recommend(HOME, shopper_id=regular, page_size=10, explain=True)
        assert not answer.info.degradations
        assert len(answer.hits) == 10
        assert all("bias" in hit.contributions for hit in answer.hits)
        request = ranker_pb2.RankRequest(
            context=coldstart_pb2.ShopperContext(history=tiny.history((items[0].id, types_pb2.EVENT_TYPE_VIEW))),
            scene=HOME,
            candidates=tiny.candidates(*(item.id for item in items[1:30])),
            deviations=True,
        )
        with grpc.insecure_channel(shop.processes["ranker"].address) as channel:
            ranked = ranker_pb2_grpc.RankerStub(channel).Rank(request, timeout=5)
        assert sorted(ranked.order) == list(range(29))
        assert {len(column.probability) for column in ranked.objectives} == {29}
        assert {len(column.log_odds_deviation) for column in ranked.objectives} == {0}
        by_ranker = {**shop._settings["gateway"], "gateway_explore_by": "ranker", "port": free_port()}
        with spawn("services.gateway", **by_ranker) as gateway, SyncClient(gateway.address, timeout=10) as client:
            explored = client.recommend(HOME, shopper_id=regular, page_size=10)

        def written() -> list[types_pb2.Impression]:
            parts = [part for part in shop.client.shopper(regular) if part.WhichOneof("part") == "impression"]
            return [part.impression for part in parts if part.impression.request_id == explored.info.request_id]

        until(lambda: bool(written()))
        assert written()[0].policy.endswith("+exploration")
        assert "by-ranker" not in written()[0].policy
