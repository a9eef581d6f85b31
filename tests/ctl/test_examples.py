# SPDX-License-Identifier: LGPL-2.1-or-later
"""The dashboard and the alert rules that are shipped: they ask for what ovlfinctl prints, and fire when they should. promtool, of Debian's
package prometheus, is asked where it is installed; it is not installed for this, for the package starts a server."""

import json
import re
import shutil
import subprocess

import prometheus_client.openmetrics.parser as openmetrics
import pytest
import yaml

from ovltest import ROOT

EXAMPLES = ROOT / "docs" / "examples"
RULES = EXAMPLES / "ovlfind-alerts.yml"
DASHBOARD = EXAMPLES / "ovlfind-dashboard.json"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def rules():
    return [r for group in yaml.safe_load(RULES.read_text())["groups"] for r in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions():
    return [r["expr"] for r in rules()] + [t["expr"] for p in panels() for t in p["targets"]]


def promtool(*args):
    return subprocess.run(["promtool", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)


def test_they_ask_for_what_there_is(ctl):
    out = ctl("metrics").out
    known = {}
    for sample in (s for f in openmetrics.text_string_to_metric_families(out) for s in f.samples):
        labels = known.setdefault(sample.name, {"instance": {"web1"}})
        for key, value in sample.labels.items():
            labels.setdefault(key, set()).add(value)
    asked = [(name, selector) for e in expressions() for name, selector in re.findall(r"(ovlfind_\w+)(?:\{([^}]*)\})?", e)]
    assert len(asked) > 20
    # What only the machine itself can tell is not there with the fake daemon.
    assert {n for n, _ in asked if n not in known and not n.startswith("ovlfind_upper_")} == set()
    for name, selector in asked:
        for key, regex, value in re.findall(r'(\w+)=(~?)"([^"]*)"', selector):
            if name in known and "$" not in value:
                for word in value.split("|") if regex else [value]:
                    assert word in known[name].get(key, ()), f"{name} has no {key}={word}"


def test_alerts_say_what_to_do():
    names = [r["alert"] for r in rules()]
    assert len(names) == len(set(names)) >= 10
    for r in rules():
        assert r["labels"]["severity"] in ("info", "warning", "critical")
        assert set(r["annotations"]) == {"summary", "description"}
        assert "ovlf" in r["annotations"]["description"] or "=" in r["annotations"]["description"], r["alert"]


def test_the_dashboard_can_be_read():
    text = json.loads(DASHBOARD.read_text())
    assert len({p["id"] for p in panels()}) == len(panels())
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels()]
    assert len(set(places)) == len(places)
    variables = {v["name"] for v in text["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__all"} == variables


@needs_promtool
def test_promtool_reads_the_rules():
    r = promtool("check", "rules", RULES)
    assert r.returncode == 0, r.stdout


@needs_promtool
def test_promtool_reads_the_dashboard(tmp_path):
    """It knows rules only: each query becomes one."""
    queries = [re.sub(r"\$__rate_interval", "5m", re.sub(r"\$(instance|overlay)", ".*", t["expr"])) for p in panels() for t in p["targets"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:{i}", "expr": q} for i, q in enumerate(queries)]}]}))
    r = promtool("check", "rules", tmp_path / "rules.yml")
    assert r.returncode == 0, r.stdout


@needs_promtool
def test_alerts_fire(tmp_path):
    (tmp_path / "test.yml").write_text((ROOT / "tests/ctl/alerts-test.yml").read_text().replace("RULES", str(RULES)))
    r = promtool("test", "rules", tmp_path / "test.yml")
    assert r.returncode == 0, r.stdout
