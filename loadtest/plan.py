"""What a load test sends: the traffic's mix and the phases, read from a TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SHIPPED = Path(__file__).with_name("plan.toml")

Scenario = Literal["search", "search-known", "home", "cart", "similar", "events", "cold", "upsert"]
Positive = Annotated[float, Field(gt=0)]


class PlanError(ValueError):
    """A plan that cannot be followed; the message names file, field and limit."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Traffic(_Part):
    """How calls are drawn and sent."""

    zipf: Annotated[float, Field(ge=0, le=5)] = 1.0
    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    page_size: Annotated[int, Field(ge=1, le=100)] = 20


class Phase(_Part):
    """A stretch of the test. `rate`: calls a second, in "steps" of the first; `seconds`: of the phase or step."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    kind: Literal["steady", "constant", "ramp", "closed", "steps"]
    seconds: Annotated[float, Field(gt=0, le=86_400)]
    rate: Annotated[float, Field(gt=0, le=100_000)] | None = None
    in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    factor: Annotated[float, Field(gt=1, le=10)] = 1.25
    most_steps: Annotated[int, Field(ge=2, le=100)] = 12

    @model_validator(mode="after")
    def _complete(self) -> "Phase":
        if self.kind == "closed" and self.in_flight is None:
            raise ValueError('in_flight must be given where kind is "closed"')
        if self.kind != "closed" and self.rate is None:
            raise ValueError(f'rate must be given where kind is "{self.kind}"')
        return self


class Plan(_Part):
    """The whole test."""

    traffic: Traffic = Traffic()
    scenarios: Annotated[dict[Scenario, Positive], Field(min_length=1)]
    phases: Annotated[list[Phase], Field(min_length=1)]


def read_plan(file: Path = SHIPPED) -> Plan:
    """Raises PlanError naming the field that is wrong."""
    try:
        return Plan.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{file}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise PlanError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
