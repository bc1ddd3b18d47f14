"""The container files say the same as the project: paths, extras, versions, model names, settings, ports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from gpt_oss_triton import wire
from gpt_oss_triton.config import FrontendSettings, field_names
from gpt_oss_triton.launch.triton_server import TritonServerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
COMPOSE: dict[str, Any] = yaml.safe_load(_DEFAULT.sub(r"\1", (DOCKER / "compose.yaml").read_text()))
SERVICES: dict[str, Any] = {name: of for name, of in COMPOSE["services"].items() if "build" in of}  # ours

MANIFESTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text())
}  # fmt: skip
TRITONS = MANIFESTS["StatefulSet", "gpt-oss-triton"]["spec"]
SHIMS = MANIFESTS["Deployment", "gpt-oss-shim"]["spec"]

by_file = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def instructions(dockerfile: Path, name: str) -> list[str]:
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def constraints(name: str) -> dict[str, Version]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {pin.name: Version(next(iter(pin.specifier)).version) for pin in pins}


def requirements(*extras: str) -> list[Requirement]:
    """The project's own requirements with these extras, extras of itself unfolded."""
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            found += (
                requirements(*requirement.extras) if requirement.name == PROJECT["name"] else [requirement]
            )
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------------- dockerfiles


def test_there_is_an_image_for_each_side() -> None:
    assert {path.name for path in DOCKERFILES} == {"triton.Dockerfile", "frontend.Dockerfile"}


@by_file
def test_the_linter_is_content(dockerfile: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@by_file
def test_what_is_copied_exists_and_is_not_ignored(dockerfile: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for copied in instructions(dockerfile, "COPY"):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in allowed), f"{source} is not in .dockerignore"


@by_file
def test_the_extras_and_the_constraints_exist(dockerfile: Path) -> None:
    (install,) = (line for line in instructions(dockerfile, "RUN") if "pip install" in line)
    extras = re.search(r'"\.\[([\w,]+)\]"', install)
    assert extras is not None
    assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()
    assert "embedded" not in extras[1]  # the image has a server of its own
    assert "--constraint constraints/container.txt" in install


@by_file
def test_an_image_does_not_run_as_root(dockerfile: Path) -> None:
    assert instructions(dockerfile, "USER")[-1] not in ("0", "root")


def test_the_shims_image_has_no_torch() -> None:
    assert '".[frontend]"' in (DOCKER / "frontend.Dockerfile").read_text()
    assert not {"torch", "transformers"} & {r.name for r in requirements("frontend")}


def test_the_shims_python_is_one_that_the_project_supports() -> None:
    (argument,) = instructions(DOCKER / "frontend.Dockerfile", "ARG")
    version = argument.removeprefix("PYTHON_VERSION=")
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


# ------------------------------------------------------------------------------------------- constraints


@pytest.mark.parametrize(
    ("name", "extras"), [("cpu", ("dev",)), ("cpu", ("embedded",)), ("container", ("frontend", "engine"))]
)
def test_the_constraints_pin_every_requirement_to_a_version_that_it_allows(
    name: str, extras: tuple[str, ...]
) -> None:
    pins = constraints(name)
    for requirement in requirements(*extras):
        assert canonical(requirement.name) in pins, f"{requirement.name} is not pinned"
        assert pins[canonical(requirement.name)] in requirement.specifier, requirement


def test_the_two_sets_differ_in_numpy_alone() -> None:
    """What is tested here is what runs in the image; NumPy 1 is the embedded server's need, 2 is today's."""
    cpu, container = constraints("cpu"), constraints("container")
    assert {name for name in container if cpu.get(name) != container[name]} == {"numpy"}
    assert cpu["numpy"].major == 1
    assert container["numpy"].major == 2


# ----------------------------------------------------------------------------------------------- compose


def test_compose_builds_these_images() -> None:
    for service in SERVICES.values():
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        assert ROOT / service["build"]["dockerfile"] in DOCKERFILES


@pytest.mark.parametrize("service", SERVICES)
def test_each_setting_is_one_that_the_project_knows(service: str) -> None:
    dockerfile = ROOT / SERVICES[service]["build"]["dockerfile"]
    text = str(SERVICES[service]) + " ".join(instructions(dockerfile, "ENV"))
    named = {name.lower() for name in re.findall(r"GPT_OSS_([A-Z0-9_]+)", text)}
    assert named
    assert named <= field_names()


def test_the_shims_settings_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["frontend"]["environment"].items():
        monkeypatch.setenv(name, value or "")
    settings = FrontendSettings.load()
    assert settings.models.keys() == settings.models.keys() & wire.ENGINE_OF.keys()
    assert settings.triton_url == "triton:8001"
    grace_s = int(SERVICES["frontend"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_timeout_s
    assert SERVICES["frontend"]["depends_on"]["triton"]["condition"] == "service_healthy"


def test_triton_is_started_as_the_project_starts_it() -> None:
    command = SERVICES["triton"]["command"]
    (in_image,) = instructions(DOCKER / "triton.Dockerfile", "CMD")[-1:]
    assert set(yaml.safe_load(in_image)) <= set(command)
    options = dict(option.removeprefix("--").split("=", 1) for option in command if option.count("=") == 1)
    assert options["model-control-mode"] == "explicit"
    assert options["load-model"] in wire.ENGINE_OF
    assert (ROOT / "model_repository" / options["load-model"] / "config.pbtxt").is_file()
    copied = [line.split() for line in instructions(DOCKER / "triton.Dockerfile", "COPY")]
    assert ["model_repository", options["model-repository"]] in copied
    default = TritonServerSettings.__dataclass_fields__["shm_bytes"].default
    assert f"--backend-config=python,shm-default-byte-size={default}" in command
    assert f"--backend-config=python,shm-growth-byte-size={default}" in command


def test_the_checkpoint_is_mounted_where_the_engine_looks() -> None:
    (volume,) = SERVICES["triton"]["volumes"]
    (repository,) = (
        line.split()[1]
        for line in instructions(DOCKER / "triton.Dockerfile", "COPY")
        if line.startswith("model_repository")
    )
    assert Path(volume["target"]) == Path(repository).parent / "checkpoints"
    assert volume["read_only"]
    assert (DOCKER / volume["source"]).resolve() == ROOT / "checkpoints"


def test_ports_agree() -> None:
    shim = DOCKER / "frontend.Dockerfile"
    environment = dict(pair.split("=", 1) for env in instructions(shim, "ENV") for pair in shlex.split(env))
    port = environment["GPT_OSS_PORT"]
    assert instructions(shim, "EXPOSE") == [port]
    assert f"127.0.0.1:{port}/livez" in instructions(shim, "HEALTHCHECK")[0]
    assert SERVICES["frontend"]["ports"] == [
        f"127.0.0.1:8000:{port}"  # it asks for no key unless one is set
    ]
    assert instructions(DOCKER / "triton.Dockerfile", "EXPOSE") == [" ".join(SERVICES["triton"]["expose"])]
    assert (
        SERVICES["frontend"]["environment"]["GPT_OSS_TRITON_URL"].split(":")[1]
        in SERVICES["triton"]["expose"]
    )
    assert "ports" not in SERVICES["triton"]  # model control is open to whoever reaches it


# -------------------------------------------------------------------------------------------- kubernetes


def pod_of(workload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's specification, and that of its one container."""
    pod: dict[str, Any] = workload["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_pods_are_the_images_that_compose_builds_and_start_as_there() -> None:
    for workload, service in ((TRITONS, "triton"), (SHIMS, "frontend")):
        pod, container = pod_of(workload)
        assert container["image"].split("/")[-1] == SERVICES[service]["image"]
        user = instructions(ROOT / SERVICES[service]["build"]["dockerfile"], "USER")[-1]
        assert str(pod["securityContext"]["runAsUser"]) == user
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    key = "triton-control-key=$(GPT_OSS_TRITON_CONTROL_KEY)"
    in_compose = [re.sub(r"triton-control-key=.*", key, option) for option in SERVICES["triton"]["command"]]
    assert pod_of(TRITONS)[1]["args"] == in_compose


def test_a_pods_settings_are_ones_that_the_project_knows() -> None:
    for workload in (TRITONS, SHIMS):
        names = [variable["name"] for variable in pod_of(workload)[1]["env"]]
        assert {name.removeprefix("GPT_OSS_").lower() for name in names} <= field_names()


def test_no_service_sets_what_a_pod_takes_for_a_setting() -> None:
    """Kubernetes tells each pod of all services in variables: of one named gpt-oss in `GPT_OSS_PORT`."""
    for of in MANIFESTS.values():
        template = of.get("spec", {}).get("template")
        assert template is None or template["spec"]["enableServiceLinks"] is False


def test_the_shims_find_each_triton_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in pod_of(SHIMS)[1]["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "a secret"))
    settings = FrontendSettings.load()
    service = MANIFESTS["Service", TRITONS["serviceName"]]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == TRITONS["template"]["metadata"]["labels"]
    (port,) = (port["port"] for port in service["spec"]["ports"] if port["name"] == "grpc")
    assert [target.url for target in settings.targets or ()] == [
        f"gpt-oss-triton-{n}.{TRITONS['serviceName']}:{port}" for n in range(TRITONS["replicas"])
    ]
    pod, container = pod_of(SHIMS)
    wait_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > settings.drain_timeout_s + wait_s
    assert not settings.recover, "the probe below starts the pod anew"


@pytest.mark.parametrize(
    ("reported", "step_age", "lives"),
    [("now", 0.1, True), ("60", 0.1, False), ("now", 300, False), (None, 0, False)],
)
def test_the_probe_sees_an_engine_that_is_silent_stuck_or_not_there(
    reported: str | None, step_age: float, lives: bool, tmp_path: Path
) -> None:
    now = time.time()
    labels = '{model="gpt-oss-20b-engine",version="1"}'
    lines = [] if reported is None else [
        f"gpt_oss_engine_reported_timestamp_seconds{labels} {now if reported == 'now' else now - float(reported)}",
        f"gpt_oss_engine_step_age_seconds{labels} {step_age}",
    ]  # fmt: skip
    curl = tmp_path / "curl"
    curl.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    curl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = pod_of(TRITONS)[1]["livenessProbe"]["exec"]["command"]
    assert (subprocess.run(command, env={"PATH": path}, check=False).returncode == 0) == lives


def test_ports_and_selectors_fit() -> None:
    for service, workload in (("gpt-oss-triton", TRITONS), ("gpt-oss", SHIMS)):
        labels = workload["template"]["metadata"]["labels"]
        assert workload["selector"]["matchLabels"] == labels
        assert MANIFESTS["Service", service]["spec"]["selector"] == labels
    policy = MANIFESTS["NetworkPolicy", "gpt-oss-triton"]["spec"]
    assert policy["podSelector"]["matchLabels"] == TRITONS["template"]["metadata"]["labels"]
    (shims, _) = policy["ingress"]
    assert shims["from"] == [{"podSelector": SHIMS["selector"]}]
    assert shims["ports"] == [{"port": "grpc"}]
