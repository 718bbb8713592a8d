"""The baseline does what the paper says: factors that follow the log, towers that do without them."""

import numpy as np

from tests.unit.training.ranker.logs import tastes
from training.evaluate.coldstart_dropoutnet import factorise, train_towers
from training.ranker.log import Log


def groups() -> tuple[Log, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    return tastes(shoppers=80, items=40, groups=4)


def test_factors_follow_the_log() -> None:
    log, _ = groups()
    factors = factorise(log, 0)
    said = factors.shoppers @ factors.items.T
    own = log.item[log.starts[:-1]] // 10
    same = own[:, None] == np.arange(40) // 10
    assert said[same].mean() > 3 * abs(said[~same].mean())
    # Folding a shopper in is the last half step of the factorisation.
    history = np.unique(log.item[log.starts[3] : log.starts[4]])
    folded = factors.fold_in(history) @ factors.items.T
    assert np.corrcoef(folded, said[3])[0, 1] > 0.95


def test_towers_do_without_preferences() -> None:
    import torch

    log, content = groups()
    factors = factorise(log, 0)
    size = float(np.sqrt((factors.items**2).sum(axis=1).mean()))
    model = train_towers(log, factors, content, 0.5, 32, size, 0)
    with torch.inference_mode():
        unknown = model("item", torch.zeros(40, factors.items.shape[1]), torch.from_numpy(content))
        shopper = torch.from_numpy(factors.shoppers / size)
        means = np.stack([content[log.item[log.starts[s] : log.starts[s + 1]]].mean(axis=0) for s in range(80)])
        said = (model("shopper", shopper, torch.from_numpy(means)) @ unknown.T).numpy()
    own = log.item[log.starts[:-1]] // 10
    right = (said.reshape(80, 4, 10).mean(axis=2).argmax(axis=1) == own).mean()
    assert right > 0.8
