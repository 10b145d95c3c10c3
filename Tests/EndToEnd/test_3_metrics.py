"""Prometheus scrapes everybody whose pod says so, and its answers are right."""

import subprocess

import pytest

from lab import ROOT, eventually
from prometheus import TOOLS, inside, prometheus_of, targets
from test_3_services_and_policies import mesh  # noqa: F401 (a lab of this file's own)

CALLS = 7
HTTPBIN = "httpbin.bar-1.svc.cluster.local"


@pytest.fixture(scope="module")
def prometheus(mesh, tmp_path_factory):  # noqa: F811
    with prometheus_of(mesh, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


def test_promtool_has_nothing_to_say_about_anybody(mesh):  # noqa: F811
    assert mesh.call("/get").returncode == 0
    seen = set()
    for target in targets(mesh):
        address, path, app = target["targets"][0], target["labels"]["__metrics_path__"], target["labels"]["app"]
        scrape = inside(mesh, "curl", "-sS", "--max-time", "20", f"http://{address}{path}")
        text = scrape.stdout
        assert "# TYPE istio_build gauge" in text, f"{app} at {address}: {text}{scrape.stderr}"
        done = subprocess.run([TOOLS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stdout + done.stderr, f"{app}: {done.stdout}{done.stderr}\n{text}"
        seen.add(app)
    assert seen == {"ztunnel", "istiod", "istio-cni-node"}


def test_prometheus_scrapes_everybody_who_wants_it(mesh, prometheus):  # noqa: F811
    nodes = len(mesh.objects("nodes"))
    wanted = {("istio-cni-node",): nodes, ("istiod",): 1, ("ztunnel",): nodes}
    eventually("all targets to be up", lambda: prometheus.query("count by (app) (up == 1)", "app") == wanted)
    assert all(target["health"] == "up" and not target["lastError"] for target in prometheus.ask("targets")["activeTargets"])
    kinds = {entry["metric"]: entry["type"] for entry in prometheus.ask("targets/metadata")}
    assert kinds["istio_tcp_connections_opened"] == "counter" and kinds["istio_build"] == "gauge", kinds


def test_connections_are_counted_once_by_each_side_under_their_labels(mesh, prometheus):  # noqa: F811
    by = ("reporter", "source_workload_namespace", "destination_workload", "request_protocol", "response_flags")
    wanted = {(side, "foo", "httpbin", "tcp", "-") for side in ("source", "destination")}
    chosen = f'source_workload="sleep",destination_service="{HTTPBIN}",connection_security_policy="mutual_tls"'

    def count(metric):
        prometheus.wait_for_scrapes()
        return prometheus.query(f'sum by ({", ".join(by)}) ({metric}{{{chosen}}})', *by)

    def grown(before, metric):
        return {key: value - before.get(key, 0) for key, value in count(metric).items() if value != before.get(key, 0)}

    names = [f"istio_tcp_{what}_total" for what in ("connections_opened", "connections_closed", "sent_bytes", "received_bytes")]
    assert mesh.call("/get").returncode == 0
    # Under whatever flag: the first ones may have come before the pods were captured.
    eventually("the first calls to be over", lambda: (
        sum(count(names[0]).values()) == sum(count(names[1]).values()) > 0))
    before = {name: count(name) for name in names}
    failed = count("istio_tcp_connections_failed_total")
    for _ in range(CALLS):
        assert mesh.call("/get").returncode == 0
    # Each is counted when it begins, by both sides, before an answer can come back ...
    assert grown(before[names[0]], names[0]) == {key: CALLS for key in wanted}
    # ... and when it is over.
    exact = {key: CALLS for key in wanted}
    eventually("all calls to be over", lambda: grown(before[names[1]], names[1]) == exact)
    for name in names[2:]:
        moved = grown(before[name], name)
        assert set(moved) == wanted and len(set(moved.values())) == 1 and min(moved.values()) > CALLS * 50, (name, moved)
    assert count("istio_tcp_connections_failed_total") == failed


def test_a_refusal_is_counted_with_its_reason(mesh, prometheus):  # noqa: F811
    mesh.kubectl("apply", "-f", ROOT / "scripts" / "demo" / "only-somebody-else.yaml")
    eventually("the call to be refused", lambda: mesh.call("/get").returncode != 0)
    denied = f'istio_tcp_connections_failed_total{{reporter="destination",response_flags="DENY",destination_service="{HTTPBIN}"}}'
    eventually("the refusal to be counted", lambda: prometheus.query(f"sum({denied}) > 0"))
    mesh.kubectl("delete", "-f", ROOT / "scripts" / "demo" / "only-somebody-else.yaml")
    eventually("the call to work again", lambda: mesh.call("/get").returncode == 0)


def test_the_series_that_traffic_makes_have_a_budget(mesh, prometheus):  # noqa: F811
    assert set(prometheus.query("martlet_metrics_series_max").values()) == {20000}
    assert 0 < max(prometheus.query("martlet_metrics_series", "node").values()) < 1000
    assert set(prometheus.query("martlet_metrics_series_overflowed_total", "node").values()) == {0}
