"""A real Prometheus scrapes the waypoint, and the queries that others ask of it have answers: Kiali's graph, Argo Rollouts'
analysis."""

import json
import subprocess
import threading

import pytest

from lab import Failed, eventually
from prometheus import TOOLS, inside, prometheus_of, targets
from shop import policy
from test_2_policies import ECHO, GRPC, to, waypoint  # noqa: F401

# What Kiali groups the edges of its graph by, and of its two graphs of bytes and messages.
REQUESTS = [
    "source_cluster", "source_workload_namespace", "source_workload", "source_canonical_service", "source_canonical_revision",
    "destination_cluster", "destination_service_namespace", "destination_service", "destination_service_name",
    "destination_workload_namespace", "destination_workload", "destination_canonical_service", "destination_canonical_revision",
    "request_protocol", "response_code", "grpc_response_status", "response_flags"]
MESSAGES = REQUESTS[:13]
BYTES = ["app", *REQUESTS[:13], "response_flags"]
WINDOW = "[60s]"


@pytest.fixture(scope="module")
def prometheus(shop, tmp_path_factory):
    with prometheus_of(shop, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def traffic(shop, prometheus):
    """Some of everything, all the time: rates are of what changes between two scrapes."""
    denied = policy("no-deletes", "echo", {"action": "DENY", "rules": to(methods=["DELETE"], ports=["80"])})
    shop.apply(denied)
    shop.await_codes("the refusal", (403, {"url": ECHO, "method": "DELETE"}))
    over = threading.Event()

    def run():
        while not over.wait(0.2):
            for url, method in ((ECHO + "/a", "GET"), (ECHO + "/status/500", "GET"), (ECHO, "DELETE"), (GRPC, "GET")):
                shop.ask(url, method=method)
            shop.ask("tcp://echo.shop:9090")

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()
    shop.remove(denied)


def edges(prometheus, metric, selector, labels):
    """As Kiali asks: rounded rates of what is not idle."""
    query = f"round(sum(rate({metric}{{{selector}}} {WINDOW})) by ({','.join(labels)}) > 0,0.001)"
    return [sample["metric"] for sample in prometheus.ask("query", query=query)["result"]]


def edge(found, **wanted):
    return [one for one in found if all(one.get(label, "") == value for label, value in wanted.items())]


ALICE = {
    "source_cluster": "Kubernetes", "source_workload_namespace": "clients", "source_workload": "alice",
    "source_canonical_service": "alice", "source_canonical_revision": "v1"}
SERVICE = {
    "destination_cluster": "Kubernetes", "destination_service_namespace": "shop", "destination_service_name": "echo",
    "destination_service": "echo.shop.svc.cluster.local"}
ANSWERED = {**ALICE, **SERVICE, "destination_workload_namespace": "shop", "destination_canonical_service": "echo"}


def test_the_waypoint_is_scraped_and_promtool_has_nothing_to_say(shop, prometheus):
    name = shop.pods_of()[0]["metadata"]["name"]
    target = next(target for target in targets(shop) if target["labels"]["pod"] == name)
    eventually("it to be scraped", lambda: prometheus.query(f'up{{pod="{name}"}}').get(()) == 1)
    text = inside(
        shop, "curl", "-sS", "--max-time", "20", f"http://{target['targets'][0]}{target['labels']['__metrics_path__']}").stdout
    assert "# TYPE istio_requests_total counter" in text, text[:2000]
    done = subprocess.run([TOOLS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    # The name is Istio's.
    known = 'istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"'
    assert set((done.stdout + done.stderr).splitlines()) <= {known}, done.stdout + done.stderr


@pytest.mark.parametrize("reporter, selector", [
    # Incoming to the namespace, and outgoing from the clients'.
    ("waypoint|destination", 'destination_workload_namespace="shop"'),
    ("waypoint|source", 'source_workload_namespace="clients"')])
def test_kialis_graph_of_requests(prometheus, traffic, reporter, selector):
    said = []

    def complete():
        found = edges(prometheus, "istio_requests_total", f'reporter=~"{reporter}",{selector}', REQUESTS)
        wanted = [
            {**ANSWERED, "request_protocol": "http", "response_code": "200", "response_flags": "-"},
            {**ANSWERED, "request_protocol": "http", "response_code": "500", "response_flags": "-"},
            {**ANSWERED, "request_protocol": "grpc", "response_code": "200", "grpc_response_status": "0"}]
        workloads = {one.get("destination_workload") for one in edge(found, **ANSWERED)}
        # Kiali leaves out what lacks one of these.
        bad = [one for one in found if set(MESSAGES) - set(one)]
        absent = [one for one in wanted if not edge(found, **one)]
        said[:] = [f"missing {absent}, workloads {workloads}, without labels {bad}, of {json.dumps(found)}"]
        return not absent and not bad and workloads == {"echo-v1", "echo-v2"}

    try:
        eventually("the edges", complete, 40)
    except Failed:
        raise Failed(said[0]) from None


def test_kialis_graph_of_requests_that_reached_nobody(prometheus, traffic):
    """What was refused has a service, and no workload."""
    selector = (
        'reporter=~"waypoint|source",source_workload_namespace!="shop",destination_workload_namespace="unknown",'
        'destination_workload="unknown",destination_service=~"^.+\\\\.shop\\\\..+$"')
    found = eventually("the edge", lambda: edge(
        edges(prometheus, "istio_requests_total", selector, REQUESTS), **ALICE, response_code="403", destination_service_name="echo"))
    assert found[0]["destination_service_namespace"] == "shop" and found[0]["response_flags"], found


def test_kialis_graphs_of_messages_and_bytes(prometheus, traffic):
    for metric in ("istio_request_messages_total", "istio_response_messages_total"):
        eventually(metric, lambda: edge(edges(
            prometheus, metric, 'reporter=~"waypoint|destination",destination_workload_namespace="shop"', MESSAGES), **ANSWERED))
    for metric in ("istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"):
        found = eventually(metric, lambda: edge(edges(
            prometheus, metric, 'reporter=~"waypoint|destination",destination_workload_namespace="shop"', BYTES), **ANSWERED))
        assert {one["response_flags"] for one in found} == {"-"}, found


def test_kialis_response_times(prometheus, traffic):
    labels = ["le", *REQUESTS[:13]]
    query = (
        'histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"waypoint|destination",'
        f'destination_workload_namespace="shop",response_code=~"2[0-9]{{2}}$"}}{WINDOW})) by ({",".join(labels)})) > 0')
    found = eventually("times", lambda: edge(
        [sample["metric"] for sample in prometheus.ask("query", query=query)["result"]], **ANSWERED))
    values = [float(sample["value"][1]) for sample in prometheus.ask("query", query=query)["result"]]
    assert found and all(0 < value < 60_000 for value in values), values


def test_argo_rollouts_analysis_of_the_success_rate(prometheus, traffic):
    """The query of its documentation; in front of ambient workloads it is the waypoint that reports."""
    def requests(more=""):
        return f'istio_requests_total{{reporter="waypoint",destination_service=~"echo.shop.svc.cluster.local"{more}}}[1m]'

    bad = ',response_code!~"5.*"'
    query = f"sum(irate({requests(bad)})) / sum(irate({requests()}))"
    # Some requests of each round are 500s; which of them the last two scrapes saw is chance.
    seen = []
    eventually("a rate of some", lambda: seen.append(prometheus.query(query).get((), 0)) or 0 < seen[-1] < 1)
    print(f"\nsuccess rate {seen[-1]:.2f}")
    # Not a number: no requests at all between two scrapes.
    assert all(rate != rate or 0 <= rate <= 1 for rate in seen), seen
