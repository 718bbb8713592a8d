"""The Dockerfile against the code: what it copies, installs and lets run, and as whom; and the script of the bundle."""

import fnmatch
import importlib.metadata
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.deploy.compose import COMPOSE, GPU, load
from tests.integration.processes import REPOSITORY
from training.cli import app

DOCKERFILE = REPOSITORY / "deploy/Dockerfile"
SCRIPT = REPOSITORY / "deploy/build-bundle.sh"
TRAINING_ONLY = {"torch", "transformers", "onnx", "onnxscript", "polars", "pyarrow", "sentence-transformers"}


@dataclass
class Stage:
    """One FROM and its instructions, as (name, rest of the line)."""

    name: str
    source: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """What follows each instruction of a name."""
        return [rest for kind, rest in self.instructions if kind == name]


def stages() -> dict[str, Stage]:
    """The stages by name, in order."""
    found: dict[str, Stage] = {}
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        kind, rest = line.split(maxsplit=1)
        if kind == "FROM":
            source, word, name = rest.split()
            assert word == "AS"
            found[name] = Stage(name, source)
        else:
            next(reversed(found.values())).instructions.append((kind, rest))
    return found


STAGES = stages()


def lineage(name: str) -> list[Stage]:
    """A stage and those it is built from, nearest first."""
    stage = STAGES[name]
    return [stage, *(lineage(stage.source) if stage.source in STAGES else [])]


def extras(name: str) -> set[str]:
    """The extras of Souk that end up in the image of a stage, an engine on CPU."""
    found: set[str] = set()
    for stage in lineage(name):
        for line in stage.all("RUN"):
            for group in re.findall(r"\.\[([^]]+)\]", line):
                found |= set(group.replace("$ENGINE", "cpu").split(","))
        for line in stage.all("COPY"):
            if match := re.match(r"--from=(\S+)", line):
                found |= extras(match[1])
    return found


def needed(requirements: list[str], seen: set[str]) -> set[str]:
    """Names of all distributions that these bring, as installed here."""
    for text in requirements:
        requirement = Requirement(text)
        name = requirement.name.lower().replace("_", "-")
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        needed(importlib.metadata.requires(name) or [], seen)
    return seen


def project() -> dict[str, list[str]]:
    """The extras of pyproject.toml, the plain dependencies under the empty name."""
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def left_out(path: str) -> bool:
    """Whether .dockerignore keeps a path from the build; the last line that matches it or a parent decides."""
    out = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 2)]
        if any(fnmatch.fnmatch(part, pattern) or fnmatch.fnmatch(f"./{part}", pattern) for part in parents):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_what_is_copied_exists_and_reaches_the_build(stage: Stage) -> None:
    seen = list(STAGES)[: list(STAGES).index(stage.name)]
    assert stage.source in seen or stage.source == "python:3.11-slim-bookworm"
    for line in stage.all("COPY"):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        if match := re.match(r"--from=(\S+)", line):
            assert match[1] in seen
            continue
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert not left_out(source), source


def test_only_code_reaches_the_build() -> None:
    for path in (".venv/bin/python", ".souk/catalogue", ".git/config", "tests/conftest.py", "shop.csv"):
        assert left_out(path), path
    for path in ("souk/client.py", "services/gateway/service.py", "training/cli.py", "souk/py.typed"):
        assert not left_out(path), path
    assert left_out("services/gateway/__pycache__/service.cpython-311.pyc")


def test_compose_builds_the_two_images_with_arguments_that_they_take() -> None:
    services = [service for service in load(COMPOSE, GPU).values() if "build" in service.raw]
    assert {service.raw["build"]["target"] for service in services} == {"runtime", "training"}
    assert list(STAGES)[-1] == "runtime"
    for service in services:
        build = service.raw["build"]
        assert REPOSITORY / build["context"] / build["dockerfile"] == DOCKERFILE
        reached = set()
        for stage in STAGES.values():
            reached |= {line.split("=")[0] for line in stage.all("ARG")}
        assert set(build["args"]) <= reached


def test_the_runtime_image_brings_no_torch_and_the_training_image_does() -> None:
    assert extras("runtime") == {"serve", "cpu"}
    assert extras("training") == {"serve", "cpu", "train"}
    runtime = needed([text for extra in ("", "serve", "cpu") for text in project()[extra]], set())
    assert {"grpcio", "onnxruntime", "faiss-cpu", "tokenizers"} <= runtime
    assert not runtime & TRAINING_ONLY
    assert "torch" in needed(project()["train"], set())
    copied = [word for stage in (STAGES["runtime"], *lineage("runtime-packages")) for word in stage.all("COPY")]
    assert not any("training" in word for word in copied)


def test_torch_is_the_one_of_the_train_extra() -> None:
    (line,) = [line for line in STAGES["training-needs"].all("RUN") if "TORCH_INDEX" in line]
    pinned = re.findall(r"torch==[\d.]+\d", line)
    assert pinned == [text for text in project()["train"] if text.startswith("torch==")]


def test_the_gpu_extra_has_the_versions_of_the_cpu_extra() -> None:
    engines = {
        extra: {
            re.sub("-[cg]pu$", "", one.name): str(one.specifier)
            for one in (Requirement(text) for text in project()[extra])
        }
        for extra in ("cpu", "gpu")
    }
    # OpenVINO is for the CPU alone.
    assert engines["cpu"].pop("openvino")
    assert engines["cpu"] == engines["gpu"]


@pytest.mark.parametrize("name", ["runtime", "training"])
def test_images_run_as_a_user_of_their_own(name: str) -> None:
    (user,) = STAGES[name].all("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    after = [kind for kind, _ in STAGES[name].instructions]
    assert set(after[after.index("USER") :]) <= {"USER", "CMD"}
    uid, gid = user.split(":")
    (made,) = STAGES["base"].all("RUN")
    assert f"groupadd --gid {gid} " in made
    assert f"useradd --uid {uid} --gid {gid} " in made


def test_the_user_owns_every_directory_that_a_new_volume_covers() -> None:
    (made,) = STAGES["base"].all("RUN")
    (user,) = STAGES["runtime"].all("USER")
    words = shlex.split(made)
    at = words.index("install")
    assert words[at : at + 6] == ["install", "-d", "-o", user.split(":")[0], "-g", user.split(":")[1]]
    owned = set(words[at + 6 :])
    for service in load(COMPOSE, GPU).values():
        if "build" in service.raw:
            assert {str(mount.at) for mount in service.mounts if mount.volume} <= owned
            seeded = service.mount_of(service.environment["SOUK_CONFIG"])
            assert seeded is not None
            assert f"--chown={user} deploy/souk.toml {seeded.at}/souk.toml" in STAGES["base"].all("COPY")


def test_no_registry_stands_in_a_file() -> None:
    """Where packages come from is the builder's to say, by build arguments that are empty by default."""
    files = [*(REPOSITORY / "deploy").rglob("*"), COMPOSE, GPU, REPOSITORY / ".dockerignore"]
    for file in filter(Path.is_file, files):
        text = file.read_text()
        assert not re.search(r"\w+://(?!redis:)", text), file
        assert not re.search(r"\b[a-z0-9-]+\.(io|com|org|net|dev|cn)\b", text), file
    for stage in STAGES.values():
        for line in stage.all("ARG"):
            assert line in ("ENGINE=cpu", "PIP_OPTIONS=", "TORCH_INDEX=")
    for stage in STAGES.values():
        installs = [line for line in stage.all("RUN") if "pip install" in line and "TORCH_INDEX" not in line]
        assert all("pip install $PIP_OPTIONS " in line for line in installs)


def test_the_settings_file_of_the_images_is_one() -> None:
    assert tomllib.loads((REPOSITORY / "deploy/souk.toml").read_text()) == {}


def test_the_bundle_script_is_what_the_image_runs_and_calls_commands_that_there_are() -> None:
    maker = load()["bundle"]
    (copy,) = [line for line in STAGES["training"].all("COPY") if "build-bundle" in line]
    source, target = copy.split()
    assert REPOSITORY / source == SCRIPT
    assert SCRIPT.stat().st_mode & 0o111
    assert [Path(target).name] == maker.command
    assert f"PATH={Path(target).parent}:$PATH" in STAGES["base"].all("ENV")[0]
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith("python -m training ")]
    assert len(lines) >= 2
    for line in lines:
        command: Any = typer.main.get_command(app)
        words = shlex.split(line)[3:]
        while hasattr(command, "resolve_command"):
            _, command, words = command.resolve_command(command.context_class(command), words)
        # Ends with another code than 0 for an option that there is not, and for one that is needed and not given.
        command.make_context(command.name, words)


def test_the_bundle_script_leaves_a_bundle_as_it_is_and_fails_where_none_can_be_made(
    bundle: Path, tmp_path: Path
) -> None:
    before = (bundle / "manifest.json").stat()
    environment = {"PATH": "/usr/bin:/bin", "SOUK_BUNDLE": str(bundle)}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (bundle / "manifest.json").stat() == before

    fails = tmp_path / "python"
    fails.write_text("#!/bin/sh\nexit 3\n")
    fails.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SOUK_BUNDLE": str(tmp_path / "none"), "TMPDIR": str(tmp_path)}
    assert subprocess.run([SCRIPT], env=environment, timeout=60).returncode == 3
    assert list(tmp_path.iterdir()) == [fails]


def test_python_is_one_that_the_project_runs_on() -> None:
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    match = re.fullmatch(r"python:([\d.]+)-slim-\w+", STAGES["base"].source)
    assert match
    assert SpecifierSet(wanted).contains(match[1])
