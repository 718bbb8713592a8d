"""Reads the compose files as an engine does: variables, merges, overrides; then each service as the tests see it."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from services.runtime.settings import Settings
from tests.integration.processes import REPOSITORY

COMPOSE = REPOSITORY / "docker-compose.yml"
GPU = REPOSITORY / "docker-compose.gpu.yml"

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Mount:
    """A named volume, or a tmpfs where `volume` is None, at a path in a container."""

    volume: str | None
    at: PurePosixPath
    writable: bool


@dataclass(frozen=True)
class Port:
    """A published port."""

    host: str
    published: int
    inside: int


@dataclass(frozen=True)
class Service:
    """One service of a compose file; `raw` is what the file says of it."""

    name: str
    raw: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """The words of the command."""
        return [str(word) for word in self.raw["command"]]

    @property
    def environment(self) -> dict[str, str]:
        """What the file sets; every value must be text, or YAML would change it."""
        values = self.raw.get("environment", {})
        assert all(isinstance(value, str) for value in values.values()), values
        return dict(values)

    @property
    def health_command(self) -> list[str]:
        """The words of the health check, without CMD."""
        how, *words = self.raw["healthcheck"]["test"]
        assert how == "CMD", "no shell needed"
        return [str(word) for word in words]

    @property
    def mounts(self) -> list[Mount]:
        """Volumes and tmpfs."""
        mounts = []
        for text in self.raw.get("volumes", ()):
            volume, at, *mode = str(text).split(":")
            assert mode in ([], ["ro"]), text
            mounts.append(Mount(volume, PurePosixPath(at), not mode))
        for text in self.raw.get("tmpfs", ()):
            at = str(text).split(":")[0]
            mounts.append(Mount(None, PurePosixPath(at), True))
        return mounts

    @property
    def ports(self) -> list[Port]:
        """Published ports."""
        ports = []
        for text in self.raw.get("ports", ()):
            host, published, inside = str(text).split(":")
            ports.append(Port(host, int(published), int(inside)))
        return ports

    @property
    def needs(self) -> dict[str, str]:
        """Services it waits for, and until when."""
        return {name: str(how["condition"]) for name, how in self.raw.get("depends_on", {}).items()}

    @property
    def module(self) -> str | None:
        """The module it runs, where its command is `python -m module`."""
        return self.command[2] if self.command[:2] == ["python", "-m"] else None

    def mount_of(self, path: str) -> Mount | None:
        """The innermost mount that holds a path."""
        holding = [mount for mount in self.mounts if PurePosixPath(path).is_relative_to(mount.at)]
        return max(holding, key=lambda mount: len(mount.at.parts), default=None)


def load(*files: Path, **variables: str) -> dict[str, Service]:
    """The services by name. Raises KeyError for a variable that is neither given nor has a default."""
    return {name: Service(name, raw) for name, raw in read(*files, **variables)["services"].items()}


def read(*files: Path, **variables: str) -> dict[str, Any]:
    """All of it, later files over earlier ones."""
    whole: dict[str, Any] = {}
    for file in files or (COMPOSE,):
        whole = _over(whole, _filled_in(yaml.safe_load(file.read_text()), variables))
    return whole


def settings_class(service: Service) -> type[Settings]:
    """The settings of the process that a service runs."""
    assert service.module is not None
    module = importlib.import_module(f"{service.module}.settings")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Settings) and value is not Settings
    )
    return found


def processes(services: Mapping[str, Service]) -> list[Service]:
    """Those that run a process of Souk for good."""
    return [service for service in services.values() if (service.module or "").startswith("services.")]


def _filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Variables replaced in values, as the engine does after it has read the YAML."""

    def one(match: re.Match[str]) -> str:
        name, default = match.groups()
        return variables[name] if default is None else variables.get(name) or str(default)

    if isinstance(value, dict):
        return {key: _filled_in(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_in(inner, variables) for inner in value]
    return _VARIABLE.sub(one, value) if isinstance(value, str) else value


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        assert not (isinstance(under, list) and isinstance(value, list)), f"{key}: engines append lists, not done here"
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
