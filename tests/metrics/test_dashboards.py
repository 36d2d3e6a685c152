"""What conf/ draws and watches is what is sent: names, labels, and the values of those that stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics.fakes import FakeClient, FakePooler
from prometheus_client.parser import text_string_to_metric_families
from statsd_receiver import Receiver

from pgdoorman_lib.client.rejections import REASONS
from pgdoorman_lib.config.metrics import Statsd
from pgdoorman_lib.metrics.prometheus import Exposition
from pgdoorman_lib.metrics.statsd import StatsdExporter

CONF = Path(__file__).resolve().parents[2] / "conf"
DOCS = (CONF.parent / "docs" / "metrics.md").read_text()
#: Labels that Prometheus adds.
ADDED = {"instance", "job"}


def work(pooler: FakePooler) -> FakePooler:
    """Have one of everything happen."""
    stats = pooler.pools[0].stats
    for histogram in (stats.query_hist, stats.xact_hist, stats.wait_hist):
        histogram.add(1000)
    for name in ("xact_count", "query_count", "received", "sent", "client_login_count", "wait_count", "open_count"):
        setattr(stats, name, 1)
    stats.open_failures = 1
    stats.count_error("08006")
    pooler.clients = [FakeClient(state=state) for state in ("idle", "active", "waiting")]
    for kind in ("total", "tls", "plain", "cancel", "errors"):
        setattr(pooler.connections, kind, 1)
    pooler.connections.reject("hba")
    return pooler


def prometheus_samples() -> dict[str, list[dict[str, str]]]:
    """The labels of all samples, by their names."""
    pages = Exposition(work(FakePooler()), lambda _: {"tcp_listen": 1}, REASONS).page().pieces
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(b"".join(pages).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def dashboard(name: str) -> dict[str, Any]:
    found = json.loads((CONF / name).read_text())
    assert isinstance(found, dict)
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((CONF / "prometheus-alerts.yml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    found = [target["expr"] for panel in panels("grafana-prometheus.json") for target in panel["targets"]]
    found += [variable["definition"] for variable in dashboard("grafana-prometheus.json")["templating"]["list"][1:]]
    return found + [rule["expr"] for rule in rules()]


SAMPLES = prometheus_samples()


@pytest.mark.parametrize("expression", expressions())
def test_prometheus_has_what_is_asked_for(expression: str) -> None:
    named = re.findall(r"\b(pg_doorman_\w+)(?:\{([^}]*)\})?", expression)
    assert named or expression.startswith("up{")
    for name, matchers in named:
        assert name in SAMPLES
        labels = {label for sample in SAMPLES[name] for label in sample}
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            assert label in labels | ADDED
            if not value.startswith("$"):
                values = {sample.get(label) for sample in SAMPLES[name]}
                assert set(value.split("|") if operator == "=~" else [value]) <= values
    for label in re.findall(r"by \(([^)]*)\)", expression):
        for each in label.replace(" ", "").split(","):
            assert each in ADDED or any(each in sample for name, _ in named for sample in SAMPLES[name])
    assert expression.count("(") == expression.count(")")


def test_legends_and_summaries_name_labels_that_are_there() -> None:
    for panel in panels("grafana-prometheus.json"):
        for target in panel["targets"]:
            name = re.findall(r"pg_doorman_\w+", target["expr"])[0]
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in ADDED or all(label in sample for sample in SAMPLES[name])
    for rule in rules():
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            named = re.findall(r"pg_doorman_\w+", rule["expr"])
            assert label in ADDED or any(label in sample for name in named for sample in SAMPLES[name])


def test_graphite_has_what_is_asked_for() -> None:
    receiver = Receiver()
    pooler = FakePooler()
    exporter = StatsdExporter(pooler, Statsd(host="127.0.0.1", port=receiver.port))
    work(pooler)
    exporter.send()
    exporter._drop_client()
    sent: dict[str, str] = {}
    for name, value in receiver.values().items():
        sent[name.removeprefix("pgdoorman.").replace("exampledb.doorman", "$database.$user")] = value.split("|")[1]
    receiver.close()
    roots = {"gauges": ("g", ""), "counters": ("c", ".rate"), "timers": ("ms", ".upper")}
    asked = [target["target"] for panel in panels("grafana-statsd.json") for target in panel["targets"]]
    series = [found for target in asked for found in re.findall(r"\$(gauges|counters|timers)\.([\w.$*]+)", target)]
    assert len(series) >= len(asked)
    for root, path in series:
        kind, ending = roots[root]
        assert path.endswith(ending)
        pattern = re.escape(path.removesuffix(ending)).replace(r"\*", "[^.]+")
        assert [name for name, what in sent.items() if re.fullmatch(pattern, name) and what == kind], path


@pytest.mark.parametrize("name", ["grafana-prometheus.json", "grafana-statsd.json"])
def test_panels_are_described_and_in_order(name: str) -> None:
    """Each is in the documentation, has a place of its own, and says what it shows."""
    everything = dashboard(name)["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert f"**{panel['title']}**" in DOCS, panel["title"]


def test_every_alert_is_described() -> None:
    for rule in rules():
        assert f"`{rule['alert']}`" in DOCS


def test_every_family_is_documented() -> None:
    """As `name` without its prefix, or within a line of the table."""
    pieces = Exposition(FakePooler(), lambda _: {"tcp_listen": 1}, REASONS).page().pieces
    for line in b"".join(pieces).decode().splitlines():
        if line.startswith("# TYPE"):
            name = line.split()[2].removeprefix("pg_doorman_")
            assert f"`{name}`" in DOCS, name
