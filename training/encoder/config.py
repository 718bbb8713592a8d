"""The settings of the encoder's trainings: one frozen dataclass a command, one TOML file over its defaults."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A setting that is unknown, of another type or out of range; the message names it and its limit."""


@dataclass(frozen=True)
class Config:
    """What all settings share: a subclass names the range of each number and the values of each choice."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {}
    """Lowest and highest value of each number, or of each number of a list."""
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        for name, (low, high) in self._merged("RANGES").items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if not low <= one <= high:
                    raise ConfigError(f"{name}: must be from {low:g} to {high:g}, not {one:g}")
        for name, known in self._merged("CHOICES").items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: must be one of {', '.join(known)}, not {getattr(self, name)!r}")

    @classmethod
    def read(cls, path: Path | None = None, **given: Any) -> Self:
        """The defaults, then the TOML file, then what was given and is not None. Raises ConfigError."""
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise ConfigError(f"{path}: {error}") from None
        values |= {name: value for name, value in given.items() if value is not None}
        hints = get_type_hints(cls)
        known = {field.name: hints[field.name] for field in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"{name}: unknown; known: {', '.join(known)}")
        return cls(**{name: _fit(name, value, known[name]) for name, value in values.items()})

    @classmethod
    def _merged(cls, table: str) -> dict[str, Any]:
        """The class's own table over those of its bases."""
        merged: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            merged |= vars(base).get(table, {})
        return merged


@dataclass(frozen=True)
class TrainConfig(Config):
    """What every training loop takes."""

    steps: int = 1000
    """Updates of the weights."""
    batch: int = 64
    """Examples of one update, over all processes; with `accumulate`, of one part of it."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update."""
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    """Not of biases nor of layer norms."""
    optimiser: str = "adamw"
    warm_up: float = 0.1
    """Share of the steps over which the rate rises from 0; then it falls to 0 as a cosine."""
    max_norm: float = 1.0
    """Gradients of a greater length are scaled down to it."""
    precision: str = "fp32"
    """bf16 computes products in bfloat16; weights stay float32."""
    evaluate_every: int = 100
    """Steps between two evaluations, each with a checkpoint."""
    patience: int = 5
    """Evaluations without a better one before it stops; 0: it never stops early."""
    seed: int = 7

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "steps": (1, 10_000_000),
        "batch": (1, 1_000_000),
        "accumulate": (1, 10_000),
        "learning_rate": (1e-8, 10),
        "weight_decay": (0, 1),
        "warm_up": (0, 0.9),
        "max_norm": (1e-3, 1e6),
        "evaluate_every": (1, 10_000_000),
        "patience": (0, 1000),
        "seed": (0, 2**31 - 1),
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"optimiser": ("adamw", "sgd"), "precision": ("fp32", "bf16")}


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _fit(name: str, value: Any, kind: Any) -> Any:
    """The value as its field holds it: lists become tuples, whole numbers may stand for numbers."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: must be a list, not {value!r}")
        return tuple(_fit(name, one, get_args(kind)[0]) for one in value)
    if kind is float and type(value) is int:
        return float(value)
    # The very type: True is an int to isinstance.
    if type(value) is not kind:
        raise ConfigError(f"{name}: must be {_NAMES[kind]}, not {value!r}")
    return value
