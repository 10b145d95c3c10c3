"""What the control plane sends: services of all kinds and policies, seen by what a client's calls do."""

import contextlib
import json

import pytest

from conftest import CLUSTER, ROOT, eventually

DEMO = ROOT / "scripts" / "demo"
SLEEP = (DEMO / "sleep.yaml").read_text().replace("k3d-k3s-default", f"k3d-{CLUSTER}")
HTTPBIN = (DEMO / "httpbin.yaml").read_text().replace("k3d-k3s-default", f"k3d-{CLUSTER}")


@pytest.fixture(scope="module")
def mesh(operator):
    operator.ok("martlet", "lab", "create", CLUSTER, "--agents", "2")
    operator.ok("martlet", "install", "--set", "profile=ambient", "-y", timeout=300)
    for namespace, manifest in (("foo", SLEEP), ("bar-1", HTTPBIN)):
        operator.kubectl("create", "namespace", namespace)
        operator.kubectl("label", "namespace", namespace, "istio.io/dataplane-mode=ambient")
        operator.kubectl("create", "-n", namespace, "-f", "-", input=manifest)
    operator.kubectl("rollout", "status", "deploy/sleep", "-n", "foo", "--timeout=60s")
    operator.kubectl("rollout", "status", "deploy/httpbin", "-n", "bar-1", "--timeout=60s")
    eventually("a first call", lambda: operator.call("/get").returncode == 0)
    yield operator
    operator.ok("martlet", "lab", "delete", CLUSTER)


def apply(mesh, text):
    mesh.kubectl("apply", "-f", "-", input=text)


def curl(mesh, url, *options, seconds=5):
    return mesh.run(
        "kubectl", "exec", "-i", "deploy/sleep", "-n", "foo", "--", "curl", "-sS", "--max-time", seconds, *options,
        url, timeout=seconds + 20)


def works(mesh, url, *options):
    return curl(mesh, url, *options).returncode == 0


def condition(mesh, kind, name, namespace, wanted):
    status = json.loads(mesh.kubectl("get", kind, name, "-n", namespace, "-o", "json")).get("status", {})
    return next((c for c in status.get("conditions", []) if c["type"] == wanted), None)


def test_a_host_outside_kubernetes_gets_an_address_and_leads_to_a_machine(mesh):
    address = mesh.objects("pods", "bar-1", "app=httpbin")[0]["status"]["podIP"]
    apply(mesh, f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: legacy, namespace: foo}}
spec:
  hosts: [legacy.example]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{{number: 8000, name: http, protocol: HTTP, targetPort: 80}}]
  workloadSelector: {{labels: {{app: legacy}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: machine, namespace: foo}}
spec: {{address: "{address}", labels: {{app: legacy}}, weight: 3, locality: r/z}}
""")

    def virtual():
        entry = json.loads(mesh.kubectl("get", "serviceentry", "legacy", "-n", "foo", "-o", "json"))
        return [a["value"] for a in entry.get("status", {}).get("addresses", []) if a["host"] == "legacy.example"]

    given = eventually("virtual addresses", virtual)
    assert any(a.startswith("240.240.") for a in given) and any(a.startswith("2001:2:") for a in given), given
    v4 = next(a for a in given if "." in a)
    eventually("the call by virtual address", lambda: works(mesh, f"http://{v4}:8000/get"))
    mesh.kubectl("delete", "workloadentry", "machine", "-n", "foo")
    eventually("the call to fail without its machine", lambda: not works(mesh, f"http://{v4}:8000/get"))
    assert virtual() == given, "an address stays"
    mesh.kubectl("delete", "serviceentry", "legacy", "-n", "foo")


def test_a_host_that_belongs_to_another_object_is_said(mesh):
    for name in ("first", "second"):
        apply(mesh, f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: foo}}
spec: {{hosts: [twice.example], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}]}}
""")
    said = eventually(
        "the conflict", lambda: condition(mesh, "serviceentry", "second", "foo", "HostsAccepted")
        or condition(mesh, "serviceentry", "first", "foo", "HostsAccepted"))
    assert said["status"] == "False" and "twice.example belongs to ServiceEntry foo/" in said["message"], said
    mesh.kubectl("delete", "serviceentry", "first", "second", "-n", "foo")


def test_a_headless_service_is_called_through_the_mesh(mesh):
    apply(mesh, """
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: bar-1}
spec: {clusterIP: None, selector: {app: httpbin}, ports: [{name: http, port: 80}]}
""")
    eventually("the headless call", lambda: works(mesh, "http://headless.bar-1:80/get"))
    mesh.kubectl("apply", "-f", DEMO / "only-somebody-else.yaml")
    eventually("its refusal by policy", lambda: not works(mesh, "http://headless.bar-1:80/get"))
    mesh.kubectl("delete", "-f", DEMO / "only-somebody-else.yaml")
    eventually("the headless call again", lambda: works(mesh, "http://headless.bar-1:80/get"))


def test_local_traffic_only_finds_no_endpoint_on_another_node(mesh):
    def patch(policy):
        mesh.kubectl(
            "patch", "service", "httpbin", "-n", "bar-1", "--type=merge", "-p",
            json.dumps({"spec": {"internalTrafficPolicy": policy}}))

    patch("Local")
    eventually("no endpoint on the client's node", lambda: mesh.call("/get", seconds=5).returncode != 0)
    patch("Cluster")
    eventually("endpoints of all nodes", lambda: mesh.call("/get").returncode == 0)


def test_a_preference_is_no_condition(mesh):
    mesh.kubectl(
        "patch", "service", "httpbin", "-n", "bar-1", "--type=merge", "-p",
        json.dumps({"spec": {"trafficDistribution": "PreferSameNode"}}))
    eventually("the call to a farther node", lambda: mesh.call("/get").returncode == 0)
    mesh.kubectl(
        "patch", "service", "httpbin", "-n", "bar-1", "--type=merge", "-p",
        json.dumps({"spec": {"trafficDistribution": None}}))


def test_a_client_outside_never_meets_its_own_port(mesh):
    """The proxy dials the pod from the client's address. From its port, too, conntrack would take one for the other."""
    pod = mesh.objects("pods", "bar-1", "app=httpbin")[0]
    home, address = pod["spec"]["nodeName"].removeprefix(f"k3d-{CLUSTER}-"), pod["status"]["podIP"]
    outside = next(agent for agent in ("agent-0", "agent-1") if agent != home)
    inside = mesh.node(home, "sh", "-c", f'''
        for each in /var/run/netns/*; do nsenter --net=$each ip -o -4 addr | grep -q " {address}/" && echo $each; done; true''').strip()

    def choice(ports):
        mesh.node(home, "nsenter", f"--net={inside}", "sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}")

    before = mesh.node(home, "nsenter", f"--net={inside}", "cat", "/proc/sys/net/ipv4/ip_local_port_range").strip()
    choice("40001 40001")
    try:
        assert mesh.node(
            outside, "curl", "-sS", "--max-time", "10", "--local-port", "40001", "-o", "/dev/null", "-w", "%{http_code}",
            f"http://{address}/get") == "200"
    finally:
        choice(before)


def test_endpoints_that_are_not_ready_are_used_only_when_asked_for(mesh):
    manifest = HTTPBIN.replace("name: httpbin\n", "name: unready\n").replace("app: httpbin", "app: unready")
    manifest = manifest.replace("      containers:\n", "      readinessGates: [{conditionType: example/never}]\n      containers:\n")
    mesh.kubectl("create", "-n", "bar-1", "-f", "-", input=manifest)
    eventually("the pod to run", lambda: [
        p for p in mesh.objects("pods", "bar-1", "app=unready")
        if p["status"].get("phase") == "Running"
        and p["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"])
    assert not works(mesh, "http://unready.bar-1:8000/get")
    mesh.kubectl(
        "patch", "service", "unready", "-n", "bar-1", "--type=merge", "-p",
        json.dumps({"spec": {"publishNotReadyAddresses": True}}))
    eventually("the call to a pod that is not ready", lambda: works(mesh, "http://unready.bar-1:8000/get"))
    mesh.kubectl("delete", "deploy,service", "unready", "-n", "bar-1")


POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: case, namespace: bar-1}}
spec: {spec}
"""


@contextlib.contextmanager
def unvalidated(mesh):
    """Objects may have been stored before there was a webhook, or while nobody answered it."""
    webhooks = mesh.objects("validatingwebhookconfigurations")
    mesh.kubectl("delete", "validatingwebhookconfigurations", "--all")
    try:
        yield
    finally:
        for webhook in webhooks:
            for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
                webhook["metadata"].pop(field, None)
        mesh.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": webhooks}))


def replace(mesh, manifest, reason):
    """What no policy can mean is refused when it is written. Stored nevertheless, it has to fail closed and say so."""
    if reason != "Invalid" and "CUSTOM" not in manifest:
        return mesh.kubectl("replace", "-f", "-", input=manifest)
    refused = mesh.run("kubectl", "replace", "-f", "-", input=manifest)
    assert refused.returncode != 0 and "configuration is invalid: spec." in refused.stderr, refused
    with unvalidated(mesh):
        mesh.kubectl("replace", "-f", "-", input=manifest)


@pytest.mark.parametrize("spec, allowed, reason", [
    ('{action: DENY, rules: [{from: [{source: {namespaces: [foo]}}], to: [{operation: {ports: ["80"]}}]}]}', False, "Accepted"),
    ('{action: DENY, rules: [{from: [{source: {namespaces: [foo]}}], to: [{operation: {ports: ["81"]}}]}]}', True, "Accepted"),
    ('{action: DENY, rules: [{from: [{source: {notNamespaces: [foo]}}]}]}', True, "Accepted"),
    ('{action: DENY, rules: [{from: [{source: {notNamespaces: [other]}}]}]}', False, "Accepted"),
    ('{rules: [{from: [{source: {serviceAccounts: [foo/default]}}]}]}', True, "Accepted"),
    ('{rules: [{from: [{source: {serviceAccounts: [default]}}]}]}', False, "Accepted"),
    ('{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}', True, "Accepted"),
    ('{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.42.0.0/16]}}]}]}', False, "Accepted"),
    ('{rules: [{from: [{source: {ipBlocks: [nonsense]}}]}]}', False, "Invalid"),
    ('{action: DENY, rules: [{from: [{source: {ipBlocks: [nonsense]}}], to: [{operation: {ports: ["81"]}}]}]}', True, "Invalid"),
    ('{action: DENY, rules: [{from: [{source: {ipBlocks: [nonsense]}}]}]}', False, "Invalid"),
    ('{rules: [{to: [{operation: {methods: [GET]}}]}]}', False, "UnsupportedValue"),
    ('{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}', True, "UnsupportedValue"),
    ('{rules: [{when: [{key: source.namespace, values: [foo]}, {key: destination.port, values: ["80"]}]}]}', True, "Accepted"),
    ('{selector: {matchLabels: {app: httpbin}}, action: DENY, rules: [{}]}', False, "Accepted"),
    ('{selector: {matchLabels: {app: other}}, action: DENY, rules: [{}]}', True, "Accepted"),
    ('{action: CUSTOM, rules: [{}]}', True, "UnsupportedValue"),
])
def test_what_a_policy_says_is_what_happens_and_what_its_status_says(mesh, spec, allowed, reason):
    # First the opposite, so that the case cannot pass by not having arrived.
    opposite = "{action: DENY, rules: [{}]}" if allowed else "{rules: [{}]}"
    apply(mesh, POLICY.format(spec=opposite))
    eventually("the opposite", lambda: (mesh.call("/get", seconds=5).returncode == 0) != allowed)
    replace(mesh, POLICY.format(spec=spec), reason)
    eventually("the policy's effect", lambda: (mesh.call("/get", seconds=5).returncode == 0) == allowed)
    policy = json.loads(mesh.kubectl("get", "authorizationpolicy", "case", "-n", "bar-1", "-o", "json"))

    def said():
        found = condition(mesh, "authorizationpolicy", "case", "bar-1", "ZtunnelAccepted")
        return found if found and int(found["observedGeneration"]) == policy["metadata"]["generation"] else None

    assert eventually("its status", said)["reason"] == reason
    mesh.kubectl("delete", "authorizationpolicy", "case", "-n", "bar-1")
    eventually("the call to work again", lambda: mesh.call("/get", seconds=5).returncode == 0)


def test_a_port_can_be_exempt_from_strictness(mesh):
    mesh.kubectl("create", "namespace", "outside")
    mesh.kubectl("create", "-n", "outside", "-f", "-", input=SLEEP)
    mesh.kubectl("rollout", "status", "deploy/sleep", "-n", "outside", "--timeout=60s")

    def apply_peer(port_mode):
        apply(mesh, f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: bar-1}}
spec: {{selector: {{matchLabels: {{app: httpbin}}}}, mtls: {{mode: STRICT}}, portLevelMtls: {{"80": {{mode: {port_mode}}}}}}}
""")

    apply_peer("STRICT")
    eventually("plaintext to be refused", lambda: mesh.call("/get", "outside", seconds=5).returncode != 0)
    said = eventually("its status", lambda: condition(mesh, "peerauthentication", "strict", "bar-1", "ZtunnelAccepted"))
    assert said["status"] == "True" and said["reason"] == "Accepted", said
    apply_peer("PERMISSIVE")
    eventually("plaintext at the exempt port", lambda: mesh.call("/get", "outside", seconds=5).returncode == 0)
    mesh.kubectl("delete", "peerauthentication", "strict", "-n", "bar-1")


def test_a_waypoint_that_is_not_there_is_said_on_the_service(mesh):
    mesh.kubectl("label", "service", "httpbin", "-n", "bar-1", "istio.io/use-waypoint=nowhere")
    said = eventually("the condition", lambda: condition(mesh, "service", "httpbin", "bar-1", "istio.io/WaypointBound"))
    assert said["status"] == "False" and said["reason"] == "WaypointIsNotReady", said
    mesh.kubectl("label", "service", "httpbin", "-n", "bar-1", "istio.io/use-waypoint-")
    eventually(
        "the condition to go",
        lambda: condition(mesh, "service", "httpbin", "bar-1", "istio.io/WaypointBound") is None)


def test_nobody_is_let_past_a_waypoint_and_its_policies_hold_as_long_as_it_is_there(mesh):
    apply(mesh, """
apiVersion: v1
kind: Service
metadata: {name: behind, namespace: bar-1, labels: {istio.io/use-waypoint: w}}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8000, targetPort: 80}]}
""")
    apply(mesh, """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: layer-7, namespace: bar-1}
spec:
  targetRefs: [{kind: Service, name: behind}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
""")

    def bound(wanted):
        found = condition(mesh, "service", "behind", "bar-1", "istio.io/WaypointBound")
        return found if found and found["status"] == wanted else None

    def accepted(reason):
        found = condition(mesh, "authorizationpolicy", "layer-7", "bar-1", "WaypointAccepted")
        return found if found and found["reason"] == reason else None

    def status(method):
        return mesh.run(
            "kubectl", "exec", "deploy/sleep", "-n", "foo", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method,
            "--max-time", "10", "http://behind.bar-1:8000/anything").stdout

    assert eventually("not ready", lambda: bound("False"))["reason"] == "WaypointIsNotReady"
    eventually("nothing to enforce the policy", lambda: accepted("AncestorNotBound"))
    eventually("no way round a waypoint that is not there", lambda: not works(mesh, "http://behind.bar-1:8000/get"))
    apply(mesh, """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: bar-1, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
""")
    assert "bar-1/w" in eventually("bound", lambda: bound("True"))["message"]
    eventually("the policy's target to be bound", lambda: accepted("Accepted"))
    eventually("what the policy allows", lambda: status("GET") == "200")
    assert status("POST") == "403", "the policy allows GET only"
    mesh.kubectl("delete", "gateway", "w", "-n", "bar-1")
    eventually("unbound again", lambda: bound("False"))
    eventually("no way round a waypoint that is gone", lambda: not works(mesh, "http://behind.bar-1:8000/get"))
    mesh.kubectl("delete", "service", "behind", "-n", "bar-1")
    mesh.kubectl("delete", "authorizationpolicy", "layer-7", "-n", "bar-1")
