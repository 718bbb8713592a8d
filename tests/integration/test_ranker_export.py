"""What training exports is what serving runs: the same vector of a shopper, the same probabilities."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.features import FEATURES
from services.ranker.model import History, Model
from services.ranker.objectives import Objectives
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny


def test_an_exported_ranker_does_in_serving_what_it_did_in_training(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from training.ranker.config import RankerConfig
    from training.ranker.export import export_ranker
    from training.ranker.heads import Heads
    from training.ranker.model import Ranker
    from training.ranker.train import Trained

    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    content = torch.nn.functional.normalize(torch.randn(20, 12), dim=1)
    config = RankerConfig(dim=tiny.DIM, heads=2, layers=1, max_history=6)
    trained = Trained(Ranker(config, content), np.arange(20), 0.0, 1)
    heads = Heads(
        rng.standard_normal((len(FEATURES), 3)).astype(np.float32) * 0.3,
        rng.standard_normal(3).astype(np.float32),
        rng.standard_normal((3, len(FEATURES) + 1, len(FEATURES) + 1)).astype(np.float32) * 0.1,
    )
    ids = [f"i{n}" for n in range(20)]
    manifest = export_ranker(trained, heads, ids, "c" * 64, {}, tmp_path / "ranker").manifest
    Objectives(manifest.objectives, manifest.scene_weights)

    model = Model(tmp_path, manifest, "CPUExecutionProvider")
    table = trained.model.items().detach().numpy()
    view, bought = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_PURCHASE
    entries = tiny.history(*((f"i{n}", bought if n % 3 else view) for n in range(1, 11)))
    history = History.of(entries, table[1:11], np.ones(10, np.bool_), model.max_history, tiny.NOW)
    assert len(history) == 6
    with torch.inference_mode():
        expected = trained.model.shopper.eval()(
            torch.from_numpy(table[5:11])[None],
            torch.tensor([[entry.type for entry in entries[4:]]]),
            torch.from_numpy(history.gaps)[None],
            torch.ones(1, 6, dtype=torch.bool),
        )
    np.testing.assert_allclose(model.shopper(history), expected[0].numpy(), atol=1e-5)
    rows = rng.random((30, len(FEATURES)), np.float32)
    np.testing.assert_allclose(model.probabilities(rows), heads.probability(rows), atol=1e-5)
    deviations = model.deviations(rows)
    assert deviations is not None
    np.testing.assert_allclose(deviations, heads.deviation(rows), atol=1e-5)
    parts = model.parts(rows)
    assert parts is not None
    np.testing.assert_allclose(parts[:, :-1], rows[:, :, None] * heads.weights, atol=1e-5)
    np.testing.assert_allclose(parts.sum(axis=1), rows @ heads.weights + heads.bias, atol=1e-4)
