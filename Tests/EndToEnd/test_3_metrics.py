"""Prometheus scrapes everybody whose pod says so, and its answers are right.

Debian's Prometheus has no discovery through Kubernetes: here its list of targets is made of the pods' annotations, as the
rules of Istio's documentation do it.
"""

import json
import subprocess

import pytest

from conftest import CLUSTER, ROOT, eventually
from test_3_services_and_policies import mesh  # noqa: F401 (a lab of this file's own)

TOOLS = ROOT / ".tools" / "bin"
NODE = f"k3d-{CLUSTER}-agent-0"
ADDRESS = "127.0.0.1:19090"
CALLS = 7
HTTPBIN = "httpbin.bar-1.svc.cluster.local"


def targets(mesh):
    """What the pods ask for: `prometheus.io/scrape`, `/port` and `/path`."""
    found = []
    for pod in mesh.objects("pods"):
        notes = pod["metadata"].get("annotations", {})
        if notes.get("prometheus.io/scrape") != "true":
            continue
        found.append({
            "targets": [f"{pod['status']['podIP']}:{notes['prometheus.io/port']}"],
            "labels": {
                "__metrics_path__": notes.get("prometheus.io/path", "/metrics"), "pod": pod["metadata"]["name"],
                "node": pod["spec"]["nodeName"],
                "app": next(pod["metadata"]["labels"][key] for key in ("app", "k8s-app") if key in pod["metadata"]["labels"]),
            }})
    return found


def inside(*command, **options):
    """A program of this machine in the network of a node."""
    return subprocess.run(
        ["ip", "netns", "exec", NODE, *map(str, command)], capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def prometheus(mesh, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "targets.json").write_text(json.dumps(targets(mesh)))
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "mesh", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}],
    }))
    log = open(folder / "log", "w")
    process = subprocess.Popen(
        ["ip", "netns", "exec", NODE, TOOLS / "prometheus", f"--config.file={folder}/prometheus.yml",
         f"--storage.tsdb.path={folder}/data", f"--web.listen-address={ADDRESS}"],
        stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually("Prometheus to be ready", lambda: inside("curl", "-fsS", f"http://{ADDRESS}/-/ready").returncode == 0)
        yield process
    except Exception:
        print((folder / "log").read_text())
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def ask(path, **parameters):
    words = [word for name, value in parameters.items() for word in ("--data-urlencode", f"{name}={value}")]
    done = inside("curl", "-sS", "--max-time", "20", "-G", *words, f"http://{ADDRESS}/api/v1/{path}")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "success", answer
    return answer["data"]


def query(text, *labels):
    """The values of an instant query by the values of some labels."""
    return {
        tuple(sample["metric"].get(label) for label in labels): float(sample["value"][1])
        for sample in ask("query", query=text)["result"]}


def test_promtool_has_nothing_to_say_about_anybody(mesh):  # noqa: F811
    assert mesh.call("/get").returncode == 0
    seen = set()
    for target in targets(mesh):
        address, path, app = target["targets"][0], target["labels"]["__metrics_path__"], target["labels"]["app"]
        text = inside("curl", "-sS", "--max-time", "20", f"http://{address}{path}").stdout
        assert "# TYPE istio_build gauge" in text, f"{app} at {address}: {text}"
        done = subprocess.run([TOOLS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stdout + done.stderr, f"{app}: {done.stdout}{done.stderr}\n{text}"
        seen.add(app)
    assert seen == {"ztunnel", "istiod", "istio-cni-node"}


def test_prometheus_scrapes_everybody_who_wants_it(mesh, prometheus):  # noqa: F811
    nodes = len(mesh.objects("nodes"))
    wanted = {("istio-cni-node",): nodes, ("istiod",): 1, ("ztunnel",): nodes}
    eventually("all targets to be up", lambda: query("count by (app) (up == 1)", "app") == wanted)
    assert all(target["health"] == "up" and not target["lastError"] for target in ask("targets")["activeTargets"])
    kinds = {entry["metric"]: entry["type"] for entry in ask("targets/metadata", limit=0)}
    assert kinds["istio_tcp_connections_opened"] == "counter" and kinds["istio_build"] == "gauge", kinds


def test_connections_are_counted_once_by_each_side_under_their_labels(mesh, prometheus):  # noqa: F811
    by = ("reporter", "source_workload", "source_workload_namespace", "destination_workload", "connection_security_policy")
    wanted = {(side, "sleep", "foo", "httpbin", "mutual_tls") for side in ("source", "destination")}

    def count(metric):
        return query(f'sum by ({", ".join(by)}) ({metric}{{destination_service="{HTTPBIN}"}})', *by)

    def settled():
        """The numbers of both sides, once all that was opened has been closed and both say the same."""
        opened, closed = count("istio_tcp_connections_opened_total"), count("istio_tcp_connections_closed_total")
        return opened if opened and opened == closed and len(set(opened.values())) == 1 and set(opened) == wanted else None

    assert mesh.call("/get").returncode == 0
    before = eventually("both sides to have counted a call", settled)
    for _ in range(CALLS):
        assert mesh.call("/get").returncode == 0
    after = eventually("both sides to have counted the calls", lambda: (
        lambda now: now if now and now != before and min(now.values()) >= min(before.values()) + CALLS else None)(settled()))
    assert {key: value - before[key] for key, value in after.items()} == {key: CALLS for key in wanted}
    # Bytes, too, are the same for both, and they moved.
    for direction in ("sent", "received"):
        moved = eventually("both sides to say the same of bytes", lambda direction=direction: (
            lambda now: now if len(now) == 2 and len(set(now.values())) == 1 else None)(
                count(f"istio_tcp_{direction}_bytes_total")))
        assert set(moved) == wanted and min(moved.values()) > CALLS * 50, moved
    assert not query(f'istio_tcp_connections_failed_total{{destination_service="{HTTPBIN}"}} > 0')


def test_a_refusal_is_counted_with_its_reason(mesh, prometheus):  # noqa: F811
    mesh.kubectl("apply", "-f", ROOT / "scripts" / "demo" / "only-somebody-else.yaml")
    eventually("the call to be refused", lambda: mesh.call("/get").returncode != 0)
    flags = eventually("the refusal to be counted", lambda: query(
        f'sum by (reporter, response_flags) (istio_tcp_connections_failed_total{{destination_service="{HTTPBIN}"}})',
        "reporter", "response_flags"))
    assert flags.get(("destination", "DENY"), 0) >= 1, flags
    mesh.kubectl("delete", "-f", ROOT / "scripts" / "demo" / "only-somebody-else.yaml")
    eventually("the call to work again", lambda: mesh.call("/get").returncode == 0)


def test_the_series_that_traffic_makes_have_a_budget(mesh, prometheus):  # noqa: F811
    assert set(query("martlet_metrics_series_max").values()) == {20000}
    assert 0 < max(query("martlet_metrics_series", "node").values()) < 1000
    assert set(query("martlet_metrics_series_overflowed_total", "node").values()) == {0}
