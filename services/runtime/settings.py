"""Settings: one typed object a process, from the environment and a file, checked before anything starts.

A field `port` of the embedder is SOUK_EMBEDDER_PORT, else SOUK_PORT, else `port` in the table [embedder] and then
[shared] of the TOML file that SOUK_CONFIG names, else its default.
"""

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from services.runtime.threads import cpu_limit


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    named = value.startswith(("unix:", "dns:", "ipv4:", "ipv6:"))  # As gRPC writes them.
    plain = re.fullmatch(r"[^\s/]+", host) and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65_535
    if not named and not plain:
        raise ValueError("must be host:port, the port from 1 to 65535")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""Where another process listens."""
OptionalAddress = Annotated[Address | None, BeforeValidator(lambda value: value or None)]
"""The same; empty: there is none."""


class Settings(BaseSettings):
    """What every process needs."""

    service: ClassVar[str]

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(ge=1, le=65535, description="Port of the gRPC server.")
    metrics_port: int = Field(ge=0, le=65535, description="Port of the Prometheus page; 0 switches it off.")
    bundle: Path = Field(Path(".souk/bundle"), description="Directory of the bundle to serve.")
    redis_url: str | None = Field(
        None, repr=False, pattern=r"^(rediss?|unix)://", description="Redis of the caches; absent: work without."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    reflection: bool = Field(False, description="Serve gRPC reflection, for grpcurl and the like.")
    otlp_endpoint: str | None = Field(None, description="host:port of an OpenTelemetry collector (OTLP over gRPC).")
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of requests traced where a collector is set.")
    drain_seconds: float = Field(20.0, gt=0, le=600, description="How long requests under way may take on SIGTERM.")
    max_seconds: float = Field(30.0, gt=0, le=600, description="Longest a unary call may take, whatever its deadline.")
    threads: int = Field(default_factory=cpu_limit, ge=1, le=256, description="Compute threads.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from, strongest first."""
        return (
            init_settings,
            EnvSettingsSource(settings_cls, env_prefix=f"SOUK_{cls.service.upper()}_"),
            EnvSettingsSource(settings_cls, env_prefix="SOUK_"),
            InitSettingsSource(settings_cls, init_kwargs=_from_file(cls)),
        )


S = TypeVar("S", bound=Settings)

_TABLES = ("shared", "gateway", "embedder", "retriever", "ranker", "coldstart")


def load(cls: type[S]) -> S:
    """The settings of a process, or exit code 2 and every setting to change on standard error."""
    try:
        _refuse_unknown_names(cls)
        return cls()
    except ValidationError as error:
        problems = [
            f"  {_name(cls, str(e['loc'][0]))}: {e['msg']}{_got(cls, str(e['loc'][0]), e['input'])}"
            if e["type"] != "missing"
            else f"  {_name(cls, str(e['loc'][0]))}: needed and not set"
            for e in error.errors()
        ]
    except ValueError as error:
        problems = [f"  {error}"]
    sys.stderr.write(f"{cls.service}: settings to change:\n" + "\n".join(problems) + "\n")
    sys.exit(2)


def _name(cls: type[Settings], field: str) -> str:
    return f"SOUK_{cls.service.upper()}_{field.upper()}"


def _got(cls: type[Settings], field: str, value: object) -> str:
    # What holds a key or a password is not written where others read it.
    return f" (got {value!r})" if cls.model_fields[field].repr else ""


def _refuse_unknown_names(cls: type[Settings]) -> None:
    prefix = f"SOUK_{cls.service.upper()}_"
    for name in os.environ:
        if name.startswith(prefix) and name.removeprefix(prefix).lower() not in cls.model_fields:
            known = ", ".join(sorted(_name(cls, field) for field in cls.model_fields))
            raise ValueError(f"{name}: no such setting; there are {known}")


def _from_file(cls: type[Settings]) -> dict[str, Any]:
    name = os.environ.get("SOUK_CONFIG")
    if name is None:
        return {}
    try:
        tables = tomllib.loads(Path(name).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"SOUK_CONFIG: {name}: {error}") from None
    for table, values in tables.items():
        if table not in (*_TABLES, cls.service) or not isinstance(values, dict):
            raise ValueError(f"SOUK_CONFIG: {name}: {table!r} is no table of settings; there are {', '.join(_TABLES)}")
    own: dict[str, Any] = tables.get(cls.service, {})
    for key in own:
        if key not in cls.model_fields:
            known = ", ".join(sorted(cls.model_fields))
            raise ValueError(f"SOUK_CONFIG: {name}: [{cls.service}] has no setting {key!r}; there are {known}")
    shared = {key: value for key, value in tables.get("shared", {}).items() if key in cls.model_fields}
    return shared | own
