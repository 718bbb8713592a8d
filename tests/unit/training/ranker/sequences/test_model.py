"""No place knows what comes after it or stands in another's history; histories side by side are as alone."""

import torch

from training.ranker.sequences.config import SequencesConfig
from training.ranker.sequences.model import Facts, Items, Shopper

CONFIG = SequencesConfig(dim=16, max_history=8)


def shopper() -> Shopper:
    torch.manual_seed(1)
    made = Shopper(CONFIG).eval()
    for value in made.parameters():
        if value.dim() > 1:
            torch.nn.init.normal_(value, std=0.3)
    return made


def test_a_changed_later_item_leaves_earlier_places() -> None:
    model, items = shopper(), torch.randn(1, 6, 16)
    segment, number = torch.zeros(1, 6, dtype=torch.int64), torch.arange(6)[None]
    changed = items.clone()
    changed[0, 4] = torch.randn(16)
    before, after = (model.places(one, segment, number)[0] for one in (items, changed))
    torch.testing.assert_close(before[:4], after[:4])
    assert (before[4:] - after[4:]).abs().max() > 0.01


def test_packed_is_as_alone() -> None:
    model, items = shopper(), torch.randn(1, 7, 16)
    segment, number = torch.tensor([[[0, 0, 0, 1, 1, -1, -1]], [[0, 1, 2, 0, 1, 0, 0]]])
    packed = model.places(items, segment, number)[0]
    alone = model(items[:, 3:5], torch.ones(1, 2) > 0)[0]
    torch.testing.assert_close(packed[4], alone)
    padded = model(items[:, 3:], torch.tensor([[True, True, False, False]]))[0]
    torch.testing.assert_close(padded, alone)


def test_items_read_what_is_known_of_them() -> None:
    bags = torch.sparse_coo_tensor(torch.tensor([[0, 2], [0, 0]]), torch.ones(2), (3, 2), check_invariants=True)
    items = Items(8, Facts(torch.randn(3, 5), bags))
    before = items()
    with torch.no_grad():
        items.attributes[0] += 1  # type: ignore[index]
    moved = (items() - before).abs().max(dim=1).values
    assert moved[0] > 0.01
    assert moved[1] == 0


def test_the_order_of_what_was_met_counts() -> None:
    model, items = shopper(), torch.randn(1, 3, 16)
    turned = items[:, [1, 0, 2]]
    mask = torch.ones(1, 3) > 0
    assert (model(items, mask) - model(turned, mask)).abs().max() > 0.01
