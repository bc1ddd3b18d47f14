"""The dashboard and the rules ask for what `/metrics` has, and the containers find their files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.families import ENGINE_LABELS
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.labels import EngineLabels
from gpt_oss_triton.telemetry.metrics import Metrics
from tests.unit.telemetry.records import SNAPSHOT, answered

DOCKER = Path(__file__).resolve().parents[2] / "docker"
RULES = DOCKER / "prometheus" / "rules.yml"
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "gpt-oss.json").read_text())
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

METRIC = re.compile(r"\b(?:llm|kv|sessions|gpu|process)_\w+|\b\w+:\w+:\w+")
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")
MATCHER = re.compile(r"(\w+)(?:=~|!~|!=|=)\"")
PROMETHEUS_OWN = {"le", "instance", "job"}


def expressions() -> Iterator[tuple[str, str]]:
    for group in GROUPS:
        for rule in group["rules"]:
            yield rule.get("record") or rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["name"], variable["query"]["query"]


EXPRESSIONS = list(expressions())


def families() -> list[Metric]:
    """What a shim that has answered a request shows."""
    metrics, record = Metrics(FrontendSettings()), answered(response_cache="miss", preemptions=1)
    gone = answered(error="cancelled", finish_reason=None)
    for each in (record, gone):
        metrics.count(each, Figures.of(each), EngineLabels(), None)
        metrics.count_http(each)
    metrics.count_trace("rest", "kept")
    return list(text_string_to_metric_families(metrics.render("", SNAPSHOT)[0].decode()))


SAMPLES = {sample.name for family in families() for sample in family.samples}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
LABELS = {label for family in families() for sample in family.samples for label in sample.labels}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_name_exists(where: str, expression: str) -> None:
    asked = set(METRIC.findall(expression))
    assert asked or expression.startswith("up{")
    assert asked <= SAMPLES | RECORDED
    grouped = {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}
    assert grouped | set(MATCHER.findall(expression)) <= LABELS | PROMETHEUS_OWN


def test_what_is_recorded_is_used() -> None:
    asked = {name for _, expression in EXPRESSIONS for name in METRIC.findall(expression)}
    assert RECORDED - asked <= {
        "model:llm_e2e_seconds:p95_5m",
        "model:llm_output_tokens:rate_5m",
    }  # for autoscalers


def test_every_family_of_ours_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in EXPRESSIONS)
    ours = {
        family.name
        for family in families()
        if family.name.startswith(("llm_", "kv_", "sessions_", "gpu_")) and family.name != "llm_build_info"
    }
    missing = {name for name in ours if name not in shown}
    assert missing <= {"llm_ready", "llm_draining", "llm_in_flight", "llm_engine_step_age_seconds", "llm_queue_wait_limit_seconds", "sessions_created"}  # fmt: skip


def test_every_metric_that_the_operations_page_names_exists() -> None:
    page = (DOCKER.parent / "docs" / "operations.md").read_text()
    named = set(re.findall(r"`(llm_\w+)", page)) - {
        "llm_ttft_ms",
        "llm_e2e_ms",
        "llm_tokens_per_sec",
    }  # of the server before
    assert len(named) > 25
    assert named <= SAMPLES | RECORDED | {family.name for family in families()}


def test_the_engines_labels_are_all_used() -> None:
    assert set(ENGINE_LABELS) <= LABELS


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    (uid,) = (each["uid"] for each in source["datasources"])
    assert all(panel["datasource"]["uid"] == uid for panel in PANELS)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    taken = [
        (place["x"] + dx, place["y"] + dy)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for dx in range(place["w"])
        for dy in range(place["h"])
    ]
    assert len(set(taken)) == len(taken), "panels overlap"
    ttft = next(panel for panel in PANELS if panel["title"] == "Time to first token")
    assert all(target["exemplar"] for target in ttft["targets"])


def test_monitoring_is_asked_for_by_name_and_stays_on_this_machine() -> None:
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
        for volume in SERVICES[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DOCKER / source).is_dir(), source
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_prometheus_scrapes_the_services_that_there_are() -> None:
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    targets = {t for job in config["scrape_configs"] for c in job["static_configs"] for t in c["targets"]}
    assert targets == {"frontend:8000", "triton:8002"}
    assert {target.split(":")[0] for target in targets} <= SERVICES.keys()
    assert (DOCKER / "prometheus" / config["rule_files"][0]) == RULES


promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


@promtool
def test_promtool_takes_the_rules_and_the_configuration() -> None:
    config = DOCKER / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    cases = shutil.copy(Path(__file__).with_name("prometheus_rules_test.yaml"), tmp_path)
    done = subprocess.run(["promtool", "test", "rules", cases], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
