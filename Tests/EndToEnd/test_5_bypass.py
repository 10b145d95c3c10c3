"""Ways past the mesh: without its identity, out of its capture, around a waypoint. Each is refused, logged and counted.

What is not refused is here too, and is said in docs/guarantees.md.
"""

import contextlib
import json
import re

import pytest

from conftest import CLUSTER, ROOT, eventually
from test_3_services_and_policies import apply, curl, mesh  # noqa: F401 (a lab of this file's own)

# The mark of the node proxy's own connections (SO_MARK is 36).
ASK = """
import socket, sys
method, host, port, marked = sys.argv[1:]
s = socket.socket()
s.settimeout(10)
try:
    if marked == "marked":
        s.setsockopt(socket.SOL_SOCKET, 36, 0x539)
    s.connect((host, int(port)))
    s.sendall(f"{method} /anything HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n".encode())
    print((s.recv(200).split() + [b"", b"refused"])[1].decode() or "refused")
except PermissionError:
    print("not permitted")
except OSError:
    print("refused")
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  hostNetwork: {host}
  nodeSelector: {{kubernetes.io/hostname: k3d-{cluster}-{node}}}
  containers:
  - {{name: it, image: python, command: [sleep, 365d], securityContext: {security}}}
"""
# name: namespace, node, on the node's own network, securityContext. Root and CAP_NET_RAW are what runtimes give by themselves.
PODS = {
    "bare": ("foo", "agent-0", False, {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}),
    "usual": ("foo", "agent-0", False, {}),
    "admin": ("foo", "agent-0", False, {"capabilities": {"add": ["NET_ADMIN"]}}),
    "stranger": ("elsewhere", "agent-0", False, {}),
    "plain": ("outside", "agent-0", False, {}),
    "far": ("outside", "agent-0", True, {}),
    "near": ("outside", "agent-1", True, {}),
}
CAPTURED = ("bare", "usual", "admin", "stranger")
ONLY_THE_WAYPOINT = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-the-waypoint, namespace: bar-1}
spec:
  selector: {matchLabels: {app: httpbin}}
  rules: [{from: [{source: {serviceAccounts: [bar-1/waypoint]}}]}]
"""
ONLY_GET = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-get, namespace: bar-1}
spec:
  targetRefs: [{kind: Service, name: httpbin}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
"""
ALIAS = """
apiVersion: v1
kind: Service
metadata: {{name: alias, namespace: elsewhere}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: alias-1, namespace: elsewhere, labels: {{kubernetes.io/service-name: alias}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]
"""


@pytest.fixture(scope="module")
def crowd(mesh):  # noqa: F811
    for namespace, labels in (("outside", ()), ("elsewhere", ("istio.io/dataplane-mode=ambient",))):
        mesh.kubectl("create", "namespace", namespace)
        if labels:
            mesh.kubectl("label", "namespace", namespace, *labels)
    apply(mesh, "---".join(
        POD.format(name=name, namespace=namespace, node=node, host=str(host).lower(), security=json.dumps(security),
                   cluster=CLUSTER)
        for name, (namespace, node, host, security) in PODS.items()))
    for name, (namespace, *_) in PODS.items():
        mesh.kubectl("wait", f"pod/{name}", "-n", namespace, "--for=condition=Ready", "--timeout=60s", timeout=80)
    eventually("them to be captured", lambda: all(
        pod(mesh, name)["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"
        for name in CAPTURED))
    return mesh


def pod(mesh, name):  # noqa: F811
    return json.loads(mesh.kubectl("get", "pod", name, "-n", PODS[name][0], "-o", "json"))


def server(mesh):  # noqa: F811
    return mesh.objects("pods", "bar-1", "app=httpbin")[0]["status"]["podIP"]


def ask(mesh, name, host, port, method="GET", marked=False):  # noqa: F811
    """A status, `refused` or `not permitted`."""
    return mesh.kubectl(
        "exec", name, "-n", PODS[name][0], "--", "python3", "-c", ASK, method, host, port, "marked" if marked else "plain",
        timeout=60).strip()


def refusals(mesh):  # noqa: F811
    """How many connections httpbin's node proxy has counted as refused by policy."""
    proxy = next(p for p in mesh.objects("pods", "istio-system", "app=ztunnel")
                 if p["spec"]["nodeName"] == f"k3d-{CLUSTER}-agent-1")
    text = mesh.node("agent-0", "curl", "-sS", f"http://{proxy['status']['podIP']}:15020/metrics")
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
        if re.match(r'istio_tcp_connections_failed_total\{.*response_flags="DENY"', line)
        or re.match(r'martlet_connections_refused_total\{.*reason="policy"', line))


def logged(mesh, address, *words):  # noqa: F811
    """Lines of httpbin's node proxy about connections from an address."""
    return [
        line for line in mesh.proxy_log("agent-1").splitlines()
        if f"src.addr={address}:" in line and 'direction="inbound"' in line and all(word in line for word in words)]


@contextlib.contextmanager
def applied(mesh, text):  # noqa: F811
    apply(mesh, text)
    try:
        yield
    finally:
        mesh.kubectl("delete", "--ignore-not-found", "-f", "-", input=text)


def refused(mesh, reason, *attempts):  # noqa: F811
    """Each attempt (a name and how it asks) is refused, said in the log with the reason, and counted."""
    before = refusals(mesh)
    for name, question in attempts:
        seen = eventually(f"{name} to be refused", lambda: ask(mesh, name, **question) == "refused")
        assert seen
        address = pod(mesh, name)["status"]["podIP"]
        eventually(f"{name}'s refusal in the log", lambda: logged(mesh, address, reason))
    eventually("the refusals to be counted", lambda: refusals(mesh) >= before + len(attempts))


STRICT = (ROOT / "scripts" / "demo" / "strict.yaml").read_text()


def test_a_program_without_capabilities_cannot_take_the_proxys_mark(crowd):
    address = server(crowd)
    assert ask(crowd, "bare", address, 80) == "200"
    assert ask(crowd, "bare", address, 80, marked=True) == "not permitted"


@pytest.mark.parametrize("name", ["usual", "admin"])
def test_whoever_may_set_the_mark_leaves_the_mesh_and_has_no_identity(crowd, name):
    """The known hole: its own egress is not captured. Nobody else's identity is to be had by it."""
    address, source = server(crowd), pod(crowd, name)["status"]["podIP"]
    assert ask(crowd, name, address, 80) == "200"
    eventually("the line of the captured call", lambda: logged(crowd, source, 'src.identity="spiffe://cluster.local/ns/foo/'))
    assert ask(crowd, name, address, 80, marked=True) == "200"
    lines = eventually("the line of the marked call", lambda: [
        line for line in logged(crowd, source) if "src.identity" not in line])
    assert all("dst.hbone_addr" not in line for line in lines), lines


def test_plaintext_to_a_strict_workload_is_refused_logged_and_counted(crowd):
    to = {"host": server(crowd), "port": 80}
    with applied(crowd, STRICT):
        refused(crowd, "istio_converted_static_strict", ("plain", to), ("far", to), *(
            (name, to | {"marked": True}) for name in ("usual", "admin", "plain")))
        assert ask(crowd, "usual", **to) == "200", "a captured call proves who it is"
    eventually("plaintext to be accepted again", lambda: ask(crowd, "plain", **to) == "200")


@pytest.mark.xfail(strict=True, reason="what a node itself opens to its own pods counts as a probe (docs/guarantees.md)")
def test_plaintext_from_the_network_of_the_pods_own_node_is_refused(crowd):
    with applied(crowd, STRICT):
        eventually("plaintext to be refused", lambda: ask(crowd, "plain", server(crowd), 80) == "refused")
        assert ask(crowd, "near", server(crowd), 80) == "refused"


@pytest.fixture(scope="module")
def waypoint(crowd):
    crowd.ok("martlet", "waypoint", "apply", "-n", "bar-1", "--enroll-namespace", "--wait", timeout=180)
    with applied(crowd, ONLY_GET):
        by_service = "http://httpbin.bar-1:8000/anything"
        code = ("-s", "-o", "/dev/null", "-w", "%{http_code}")
        eventually("the waypoint to refuse POST", lambda: curl(crowd, by_service, *code, "-X", "POST").stdout == "403", 60)
        assert curl(crowd, by_service, *code).stdout == "200"
        yield crowd
    crowd.ok("martlet", "waypoint", "delete", "waypoint", "-n", "bar-1")
    crowd.kubectl("label", "namespace", "bar-1", "istio.io/use-waypoint-")


@pytest.fixture(scope="module")
def alias(crowd):
    """A foreign namespace's service that leads to httpbin's pod."""
    apply(crowd, ALIAS.format(address=server(crowd)))
    eventually("the alias to lead there", lambda: ask(crowd, "stranger", "alias.elsewhere", 80) == "200")


def test_by_the_service_nobody_of_the_mesh_gets_around_its_waypoint(waypoint):
    for name in ("usual", "stranger"):
        assert ask(waypoint, name, "httpbin.bar-1", 8000) == "200"
        assert ask(waypoint, name, "httpbin.bar-1", 8000, "POST") == "403"


def test_straight_to_the_pod_is_refused_where_only_the_waypoint_may(waypoint, alias):
    to = {"host": server(waypoint), "port": 80, "method": "POST"}
    # Without such a policy the pod's own policies alone decide, as in Istio.
    assert ask(waypoint, "stranger", **to) == "200"
    with applied(waypoint, ONLY_THE_WAYPOINT):
        refused(
            waypoint, "bar-1/only-the-waypoint", ("usual", to), ("stranger", to), ("plain", to), ("far", to),
            ("usual", to | {"marked": True}), ("admin", to | {"marked": True}),
            # By a service of a namespace of one's own, which has no waypoint.
            ("stranger", {"host": "alias.elsewhere", "port": 80, "method": "POST"}))
        assert ask(waypoint, "usual", "httpbin.bar-1", 8000) == "200", "through the waypoint it goes on"


def test_a_waypoint_of_ones_own_is_not_the_services(waypoint, alias):
    """A namespace sends its alias for httpbin through a waypoint of its own, which is not the one that may."""
    waypoint.kubectl("label", "service", "alias", "-n", "elsewhere", "istio.io/use-waypoint=waypoint")
    waypoint.ok("martlet", "waypoint", "apply", "-n", "elsewhere", "--wait", timeout=180)
    eventually("the alias to work through it", lambda: ask(waypoint, "stranger", "alias.elsewhere", 80) == "200")
    with applied(waypoint, ONLY_THE_WAYPOINT):
        before = refusals(waypoint)
        own = waypoint.objects("pods", "elsewhere", "gateway.networking.k8s.io/gateway-name=waypoint")[0]["status"]["podIP"]
        # The waypoint answers for the connection that it did not get.
        eventually("the alias to be refused", lambda: ask(waypoint, "stranger", "alias.elsewhere", 80) in ("503", "refused"))
        eventually("the refusal in the log", lambda: logged(waypoint, own, "bar-1/only-the-waypoint"))
        eventually("it to be counted", lambda: refusals(waypoint) > before)
