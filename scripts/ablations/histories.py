"""What synthesised histories bring a recommender of a sparse shop.

    python scripts/ablations/histories.py --dataset DIR --encoder DIR --work DIR --shares .1 .3 --seeds 1 2 3

Of each seed: the shop is the given share of the shoppers, drawn by seed, with what they met. The ranker of `train
ranker --sequences` with content vectors and attributes is trained on it, once as it is and once with walks
(training.labels.histories) beside its histories; and on all shoppers, which is full supervision. Tables, counts and the
weights of all signals are of real events alone, chosen by the shop's own validation. Each is tested on the last event
of all shoppers, full ranking, what was met left out. What is done lies in --work and is not done again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from services.domain.features import LIKED
from services.domain.signals import said
from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import open_dataset
from training.evaluate.bootstrap import paired_bootstrap
from training.labels.histories import alike, walk
from training.labels.task import Floats, Ints
from training.new_directory import new_directory
from training.ranker.log import read_log
from training.ranker.measures import gain
from training.ranker.sequences.blend import Moments, fit_weights
from training.ranker.sequences.config import fitted
from training.ranker.sequences.export import Served, write, write_report
from training.ranker.sequences.files import Sequences, attributes_of
from training.ranker.sequences.follows import find_follows
from training.ranker.sequences.graph import directions
from training.ranker.sequences.judging import measures, ranks_of
from training.ranker.sequences.model import Facts
from training.ranker.sequences.pipeline import TABLE_TRIALS, bags_of
from training.ranker.sequences.signals import NETWORK, make_signals, unit_rows
from training.ranker.sequences.texts import Texts
from training.ranker.sequences.train import Training, choosers, keep_freed_memory

FEWEST = 4
# What attributes (brand, categories, price) count beside texts where items are alike.
ATTRIBUTES = 0.7
NONE, SYNTHESISED, FULL = "no synthesis", "synthesised", "full supervision"


class Shop:
    """A dataset's shoppers, drawn by seed, and what is known of its items."""

    def __init__(self, dataset: Path, encoder: Path, cache: Path, seed: int) -> None:
        log = read_log(open_dataset(dataset), open_dataset(dataset).events(), seed)
        liked = np.isin(log.type, list(LIKED))
        firsts = np.flatnonzero(np.diff(log.shopper[liked], prepend=-1))
        # Each item once, where it was met first; shoppers are numbered at random.
        lines = [line[np.sort(np.unique(line, return_index=True)[1])] for line in np.split(log.item[liked], firsts[1:])]
        long = [row for row, line in enumerate(lines) if len(line) >= FEWEST]
        self.item_ids, self.lines = log.item_ids, [lines[row] for row in long]
        names = np.array(log.shopper_ids)[log.shopper[liked][firsts[long]]]
        self.by_name = np.argsort(names)
        """Shoppers in an order that is the same for every seed."""
        items = {item.id: item for item in read_items(dataset)}
        opened = Encoder.open(encoder)
        vectors = opened.items([items[one] for one in self.item_ids], cache, lambda done, of: None)
        content = dict(zip(self.item_ids, vectors, strict=True))
        texts = Texts.of(self.item_ids, content, opened.manifest.space_version)
        if texts is None:
            raise ValueError(f"{dataset}: the encoder reads no text of it")
        known = {one: attributes_of(items[one]) for one in self.item_ids}
        self.facts = Facts(torch.from_numpy(texts.vectors), bags_of(self.item_ids, known))
        self.content = unit_rows(texts.vectors)
        bags = self.facts.bags
        told = self.content if bags is None else np.hstack([self.content, ATTRIBUTES * bags.to_dense().numpy()])
        self.alike = alike(unit_rows(told))

    def sequences(self, lines: list[Ints]) -> Sequences:
        """Lines of items as the ranker reads them."""
        return Sequences(self.item_ids, np.concatenate(lines), np.cumsum([0, *map(len, lines)]))


def main() -> None:
    """Prints a table of means over the seeds, and the gain over all shoppers of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--work", type=Path, required=True, help="Directory for what is done.")
    parser.add_argument("--cache", type=Path, default=Path(".souk/content"), help="Where content vectors are kept.")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--walks", type=float, default=5.0, help="Walks for each shopper of the shop.")
    parser.add_argument("--validation", action="store_true", help="Test on the event before the last, to choose by.")
    parser.add_argument("--no-full", action="store_true", help="Leave out full supervision.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    given.work.mkdir(parents=True, exist_ok=True)
    back = 2 if given.validation else 1
    print(f"{'share':>6} {'ranker':18} {'by':16} {'NDCG@10':>15}  gain over no synthesis, 95%, p")
    for share in given.shares:
        found: dict[str, list[Floats]] = {}
        for seed in given.seeds:
            shop = Shop(given.dataset, given.encoder, given.cache, seed)
            for name in (NONE, SYNTHESISED) if given.no_full else (NONE, SYNTHESISED, FULL):
                found.setdefault(name, []).append(judged(shop, name, share, seed, given, back))
        for row, by in enumerate(("the network alone", "the whole ranker")):
            before = np.array([run[row] for run in found[NONE]])
            for name, runs in found.items():
                now = np.array([run[row] for run in runs])
                gained = ""
                if name != NONE:
                    # Shoppers are drawn, not runs: each counts once, with its mean over the seeds.
                    one, base = paired_bootstrap(now.mean(axis=0), before.mean(axis=0)), before.mean() / 100
                    gained = (
                        f"{one.mean / base:+.1f}% ({one.low / base:+.1f} to {one.high / base:+.1f}), {one.p_value:.4f}"
                    )
                cell = f"{now.mean():.4f} ± {now.mean(axis=1).std():.4f}"
                print(f"{share:6.2f} {name:18} {by:17} {cell:>15}  {gained}", flush=True)


def judged(shop: Shop, name: str, share: float, seed: int, given: argparse.Namespace, back: int) -> Floats:
    """NDCG@10 of each shopper, by name, of the network alone and of the whole ranker: (2, shoppers)."""
    part = "all" if name == FULL else f"{share:g}-{given.walks:g}" if name == SYNTHESISED else f"{share:g}"
    file = given.work / f"{name.replace(' ', '-')}-{part}-{seed}-{back}.npy"
    if not file.exists():
        lines = shop.lines if name == FULL else shop.lines[: round(share * len(shop.lines))]
        directory = file.with_suffix("")
        trained(shop, lines, given.walks if name == SYNTHESISED else 0.0, seed, directory)
        served = Served.open(directory)
        everybody, who = shop.sequences(shop.lines), np.arange(len(shop.lines))
        gains = [gain(ranks_of(everybody, back, who, one, True), 10) for one in (served.products, served.scores)]
        np.save(file, np.stack(gains)[:, shop.by_name])
    return np.asarray(np.load(file))


def trained(shop: Shop, lines: list[Ints], walks: float, seed: int, out: Path) -> None:
    """Writes what `Served` reads. Walks come after the shoppers: who is chosen by is always real."""
    if out.exists():
        return
    real, n = shop.sequences(lines), len(shop.item_ids)
    learned = real.before(2)
    owner, item = real.owner[learned], real.item[learned]
    follows, counts = find_follows(owner, item, n), np.bincount(item, minlength=n)
    made = walk(follows, shop.alike, counts, round(walks * len(lines)), seed) if walks else []
    # The last two events of a line are never learned.
    together = shop.sequences([*lines, *(np.append(one, one[-1:].repeat(2)) for one in made)])
    config = fitted(together, seed)
    config = replace(config, validation_shoppers=min(len(lines), config.validation_shoppers))
    some = choosers(real, config)

    def by_table(trial: tuple[int, float]) -> float:
        return measures(ranks_of(real, 2, some, lambda histories: said(follows, histories, *trial), True))["ndcg@10"]

    vectors = {"graph": directions(follows, config.graph, seed), "content": shop.content}
    signals = make_signals(follows, counts, vectors, max(TABLE_TRIALS, key=by_table), False)
    checkpoint = out.with_suffix(".pt")
    model = Training(together, shop.facts, config, checkpoint, lambda epoch: None).run()
    with new_directory(out) as draft:
        scale = write(model, shop.item_ids, signals, draft)
        write_report(draft, model, scale, {NETWORK: 1.0}, {})
        weights, _ = fit_weights(Moments.of(real, some, Served.open(draft).products, signals, True))
        write_report(draft, model, scale, weights, {})
    checkpoint.unlink()


if __name__ == "__main__":
    main()
