"""Every number of the ranker's training in one place, with an optional TOML file over the defaults."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

OBJECTIVES = ("plain", "policy")


class ConfigError(ValueError):
    """A setting of training that is unknown, of another type or out of range; the message names it."""


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    max_history: int = 50
    """Latest events that the model reads."""
    id_dropout: float = 0.3
    """Share of items that stand without their id in a step, as an unknown item will."""
    batch: int = 256
    """At most; fewer where an epoch would else have less than a hundred steps."""
    most_items: int = 100_000
    """A step learns against all items up to this number; beyond, against so many drawn anew."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    epochs: int = 40
    """At most; the budget of minutes and early stopping end it before."""
    patience: int = 4
    """Epochs without a better validation NDCG@10 before it stops."""
    examples_an_epoch: int = 60_000
    validation_examples: int = 2_000
    held_out: float = 0.08
    """Latest share of the examples, for early stopping and for the heads."""
    objective: str = "plain"
    """What the heads learn from answers: "plain", clicks at the places that were probably looked at; "policy", clicks
    at all places, corrected for how much each place is looked at by the propensities that were logged."""
    supplier_weight: float = 0.0
    """From 0 to 1: how much more the Transformer learns of what is wanted from suppliers of whom little is; at 0 all
    that is wanted counts alike, at 1 every supplier does (by the attribute, or else the brand)."""
    minutes: float = 10.0
    """Wall clock of the whole training; it ends in time with the best there is by then."""
    seed: int = 7

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("dropout", "id_dropout", "held_out")}
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise ConfigError(f"{name}: must be from 0 to below 1, not {value}")
        if not 0 <= self.supplier_weight <= 1:
            raise ConfigError(f"supplier_weight: must be from 0 to 1, not {self.supplier_weight}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective: must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")
        for field in fields(self):
            if (
                field.name not in {*shares, "seed", "objective", "supplier_weight"}
                and not getattr(self, field.name) > 0
            ):
                raise ConfigError(f"{field.name}: must be above 0, not {getattr(self, field.name)}")
        if self.dim % self.heads:
            raise ConfigError(f"heads: must divide dim, {self.dim}, not {self.heads}")


def read_config(path: Path | None, **given: float | int | None) -> RankerConfig:
    """The defaults, then the TOML file, then what was given and is not None. Raises ConfigError."""
    values: dict[str, object] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
    values |= {name: value for name, value in given.items() if value is not None}
    known = {field.name: type(field.default) for field in fields(RankerConfig)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{name}: unknown; known: {', '.join(known)}")
        if known[name] is str:
            continue
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (known[name] is float and isinstance(value, float)):
            raise ConfigError(
                f"{name}: must be a {'number' if known[name] is float else 'whole number'}, not {value!r}"
            )
    return RankerConfig(**values)  # type: ignore[arg-type]
