"""Names that the sidecar answers: those that only the mesh knows. All others are cluster DNS's."""

import json

import pytest

from cells import PLACES
from lab import eventually
from shop import IMAGE, deployment, document

NAMESPACE = "naming"
HOST, ADDRESS = "names.example", "192.0.2.77"
CAPTURE = {"proxy.istio.io/config": json.dumps({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}})}

# What the pod's own resolver says: an address each, or the reason that there is none.
ASK = r"""
import json, socket, sys
def ask(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except OSError as error:
        return str(error)
print(json.dumps([ask(name) for name in sys.argv[1:]]))
"""
FETCH = r"""
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=15)
connection.request("GET", "/")
print(connection.getresponse().status)
"""


def entry(server):
    return document(
        "ServiceEntry", "names", NAMESPACE, {
            "hosts": [HOST], "addresses": [ADDRESS], "location": "MESH_EXTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": server}]},
        group="networking.istio.io/v1")


def client(name, annotations):
    made = deployment(name, NAMESPACE, {"image": IMAGE, "command": ["sleep", "infinity"]})
    made["spec"]["template"]["metadata"]["annotations"] = annotations
    return made


def python(world, program, *arguments, deployment="captures"):
    return world.ok(
        "kubectl", "exec", "-i", f"deploy/{deployment}", "-n", NAMESPACE, "-c", deployment, "--", "sh", "-c",
        'exec "${ECHO_PYTHON:-python3}" - "$@"', "sh", *arguments, input=program)


def ask(world, *names, **more):
    return json.loads(python(world, ASK, *names, **more))


@pytest.fixture(scope="module")
def naming(world):
    world.apply(document("Namespace", NAMESPACE, labels={"istio-injection": "enabled"}))
    world.apply(client("captures", CAPTURE), client("does-not", {}))
    world.kubectl("rollout", "status", "deploy", "-n", NAMESPACE, "--timeout=120s", timeout=150)
    # A server outside of the mesh, under a name and an address that nobody else knows.
    world.apply(entry(world.addresses["to-outside", PLACES[0]]))
    yield world
    world.remove(document("Namespace", NAMESPACE))


def test_a_name_that_only_the_mesh_knows_is_answered_and_leads_through_envoy(naming):
    eventually("the name to be known", lambda: ask(naming, HOST) == [[ADDRESS]])
    assert python(naming, FETCH, HOST).strip() == "200"
    server = naming.objects("services", "to-outside")[0]
    name, address = server["metadata"]["name"], server["spec"]["clusterIP"]
    assert ask(naming, f"{name}.to-outside", f"{name}.to-outside.svc.cluster.local") == [[address]] * 2


def test_what_the_mesh_does_not_know_is_cluster_dns_s(naming):
    pod = naming.addresses["to-outside", PLACES[0]]
    of_pods = f"{pod.replace('.', '-')}.to-outside.pod.cluster.local"
    found, unknown = ask(naming, of_pods, "nothing.to-outside.svc.cluster.local")
    assert found == [pod]
    assert isinstance(unknown, str)
    sidecar = [each for each in naming.objects("pods", NAMESPACE) if each["metadata"]["labels"]["app"] == "captures"][0]
    metrics = naming.node("agent-0", "curl", "-sS", f"http://{sidecar['status']['podIP']}:15020/stats/prometheus")
    counts = dict(line.split() for line in metrics.splitlines() if line.startswith("istio_agent_dns_") and "{" not in line)
    assert 0 < float(counts["istio_agent_dns_upstream_requests_total"]) < float(counts["istio_agent_dns_requests_total"])


def test_without_the_setting_names_are_cluster_dns_s_as_before(naming):
    known, unknown = ask(naming, "kubernetes.default", HOST, deployment="does-not")
    assert isinstance(known, list) and isinstance(unknown, str)
