"""The ranker of a bundle as training's code asks one: its vectors, its heads and its scenes' weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from services.domain.bundle import read_bundle
from services.domain.features import FEATURES
from souk.vectors import Float32
from training.ranker.examples import Histories


class Served:
    """Of the items of a log, in the order of its numbers. Orders by the heads alone: what serving adds for the items
    that a scene is about, for a reranker, for limits and for diversity is not in it.

    Raises BundleError, ValueError where the bundle has no ranker or one of `train ranker --sequences`.
    """

    def __init__(self, bundle: Path, item_ids: Sequence[str]) -> None:
        manifest = read_bundle(bundle).manifest.ranker
        if manifest is None:
            raise ValueError(f"{bundle}: has no ranker; `python -m training bundle --ranker DIR` takes one along")
        if manifest.signals is not None or manifest.projection is None:
            raise ValueError(f"{bundle}: its ranker was learned from plain sequences, which hold no impressions")
        self.max_history = manifest.max_history
        self._manifest = manifest
        self._shopper, self._heads = (
            onnxruntime.InferenceSession(str(bundle / name), providers=["CPUExecutionProvider"])
            for name in (manifest.shopper_model, manifest.heads_model)
        )
        self._columns = [FEATURES.index(name) for name in manifest.features]
        with np.load(bundle / manifest.items) as items, np.load(bundle / manifest.projection) as projection:
            row = {item_id: row for row, item_id in enumerate(items["ids"].tolist())}
            self._known = [(number, row[item_id]) for number, item_id in enumerate(item_ids) if item_id in row]
            self._vectors: Float32 = items["vectors"]
            self._projection: tuple[Float32, Float32] = projection["W"], projection["b"]

    def table(self, content: Float32) -> Float32:
        """Behaviour vectors of all items of the log: known ones as learned, others by their content, NaN where neither
        can be: (n, dim)."""
        weight, bias = self._projection
        out = content @ weight + bias
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        out[~content.any(axis=1)] = np.nan
        if self._known:
            numbers, rows = np.array(self._known).T
            out[numbers] = self._vectors[rows]
        return out

    def shoppers(self, table: Float32, batch: Histories) -> Float32:
        """Vectors of a batch's shoppers, (batch, dim). An item without a vector is left out of the history."""
        vectors = table[batch.items]
        mask = batch.mask & ~np.isnan(vectors[..., 0])
        inputs = {
            "items": np.where(mask[..., None], vectors, 0).astype(np.float32),
            "types": batch.types,
            "gaps": batch.gaps,
            "mask": mask,
        }
        found: Float32 = self._shopper.run(["shopper"], inputs)[0]
        return found

    def score(self, features: Float32, scene: str) -> Float32:
        """The weighted sum of the probabilities that orders a scene, (n,)."""
        probability: Float32 = self._heads.run(["probability"], {"features": features[:, self._columns]})[0]
        found: Float32 = probability @ np.array(self._manifest.scene_weights[scene], np.float32)
        return found
