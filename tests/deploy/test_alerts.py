"""Prometheus: the rules are valid, fire when they must, and are the same on Kubernetes."""

import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yml"
OPERATOR = ROOT / "docker" / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
CASES = pathlib.Path(__file__).with_name("alerts_test.yml")
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def check(*command):
    done = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@promtool
def test_configuration():
    check("check", "config", ROOT / "docker" / "prometheus" / "prometheus.yml")


@promtool
def test_alerts_fire_when_they_must():
    check("test", "rules", CASES)


def test_every_alert_has_cases():
    cases = yaml.safe_load(CASES.read_text())["tests"]
    fired = {case["alertname"] for test in cases for case in test.get("alert_rule_test", ())
             if case["exp_alerts"]}
    quiet = {case["alertname"] for test in cases for case in test.get("alert_rule_test", ())
             if not case["exp_alerts"]}
    assert set(alerts()) == fired == quiet


def test_kubernetes_has_the_same_rules():
    assert yaml.safe_load(OPERATOR.read_text())["spec"] == yaml.safe_load(ALERTS.read_text())


def test_every_alert_is_explained():
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    missing = [name for name in alerts() if f"`{name}`" not in text]
    assert not missing
    assert all(rule["labels"]["severity"] in ("critical", "warning", "info")
               and rule["annotations"]["summary"] for rule in alerts().values())


def test_rules_ask_for_metrics_that_exist(start):
    """A renamed metric would silence its alert for ever."""
    text = start("--drain-timeout-s", "4").get("/metrics", admin=True).body.decode()
    served = set(re.findall(r"^(\w+?)(?:\{.*)? \S+$", text, re.M))
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    asked = {name for group in groups for rule in group["rules"]
             for name in re.findall(r"\b(?<!:)(?:orthrus|process)_\w+", rule["expr"])
             if f":{name}" not in rule["expr"]}
    assert asked and asked <= served, asked - served
