"""Names: a captured pod's questions are answered by the mesh, and what the mesh does not know reaches the resolver."""

import json
import re

from conftest import CLUSTER, eventually
from test_1_first_light import HTTPBIN, SLEEP, captured

# A stub resolver of a few lines: asks the pod's own name server, and says all that came back.
STUB = r'''
import json, socket, struct, sys

server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))

def ask(name, kind, tcp):
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0)
    query += b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack(">HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as s:
        s.settimeout(15)
        s.connect((server, 53))
        s.send(struct.pack(">H", len(query)) + query if tcp else query)
        answer = s.recv(4096)
        if tcp:
            while len(answer) < 2 or len(answer) < 2 + struct.unpack(">H", answer[:2])[0]:
                answer += s.recv(4096)
            answer = answer[2:]
    at = 12
    def skip(at):
        while answer[at]:
            if answer[at] >= 0xC0:
                return at + 2
            at += 1 + answer[at]
        return at + 1
    at = skip(at) + 4
    records = []
    for _ in range(struct.unpack(">H", answer[6:8])[0]):
        at = skip(at)
        kind, _, ttl, count = struct.unpack(">HHIH", answer[at:at + 10])
        at += 10
        records.append([kind, ttl, ".".join(map(str, answer[at:at + count])) if kind == 1 else answer[at:at + count].hex()])
        at += count
    flags = struct.unpack(">H", answer[2:4])[0]
    return {"code": flags & 15, "authoritative": bool(flags & 0x400), "records": records}

print(json.dumps([ask(n, int(k), t == "tcp") for n, k, t in (word.split("/") for word in sys.argv[1:])]))
'''


def ask(operator, *questions, namespace="foo", deployment="sleep"):
    """Each question is name/type/transport."""
    return json.loads(operator.ok(
        "kubectl", "exec", "-i", f"deploy/{deployment}", "-n", namespace, "--", "python3", "-", *questions, input=STUB))


def address_of(operator):
    return operator.objects("services", "bar-1", "app=httpbin")[0]["spec"]["clusterIP"]


def test_a_mesh_that_captures_names_is_installed(operator):
    operator.ok("martlet", "lab", "create", CLUSTER, "--agents", "2", "--api-port", "16550")
    operator.ok("martlet", "install", "--set", "profile=ambient", "--set", "values.ztunnel.logLevel=debug", "-y")
    operator.ok("martlet", "verify-install")
    settings = operator.kubectl("get", "configmap", "istio-cni-config", "-n", "istio-system", "-o", "json")
    assert json.loads(settings)["data"]["AMBIENT_DNS_CAPTURE"] == "true", "the default of Istio's chart"
    for namespace in ("foo", "bar-1", "outside"):
        operator.kubectl("create", "namespace", namespace)
    for namespace in ("foo", "bar-1"):
        operator.kubectl("label", "namespace", namespace, "istio.io/dataplane-mode=ambient")
    direct = SLEEP.replace("name: sleep\n", "name: direct\n").replace("app: sleep", "app: direct").replace(
        "      labels:\n        app: direct", "      labels:\n        app: direct\n"
        "      annotations: {ambient.istio.io/dns-capture: \"false\"}")
    operator.kubectl("create", "-n", "foo", "-f", "-", input=SLEEP)
    operator.kubectl("create", "-n", "foo", "-f", "-", input=direct)
    operator.kubectl("create", "-n", "outside", "-f", "-", input=SLEEP)
    operator.kubectl("create", "-n", "bar-1", "-f", "-", input=HTTPBIN)
    for namespace, name in (("foo", "sleep"), ("foo", "direct"), ("bar-1", "httpbin"), ("outside", "sleep")):
        operator.kubectl("rollout", "status", f"deploy/{name}", "-n", namespace, "--timeout=60s")
    eventually("foo to be captured", lambda: captured(operator, "foo"))
    eventually("bar-1 to be captured", lambda: captured(operator, "bar-1"))


def test_a_captured_pod_is_answered_by_the_mesh(operator):
    address = address_of(operator)
    for transport in ("udp", "tcp"):
        # Only the mesh knows that a half name with a search domain behind is still that name: the cluster's DNS says no.
        half, full, other = eventually("the mesh to know httpbin", lambda: (
            lambda answers: answers if answers[0]["records"] else None)(ask(
                operator, f"httpbin.bar-1.foo.svc.cluster.local/1/{transport}",
                f"httpbin.bar-1.svc.cluster.local/1/{transport}", f"httpbin.bar-1.svc.cluster.local/28/{transport}")))
        assert half["authoritative"] and [record[0] for record in half["records"]] == [5, 1]
        assert half["records"][1][2] == address
        assert full["records"] == [[1, 30, address]]
        assert other["code"] == 0 and not other["records"]
    answer = operator.call("/get")
    assert answer.returncode == 0, answer.stderr


def test_what_the_mesh_does_not_know_reaches_the_resolver(operator):
    questions = [
        f"{name}/{kind}/{transport}" for transport in ("udp", "tcp") for name, kind in (
            ("_http._tcp.httpbin.bar-1.svc.cluster.local", 33), ("nothing.bar-1.svc.cluster.local", 1),
            ("outside.example", 1), ("outside.example", 65))]
    through = ask(operator, *questions)
    direct = ask(operator, *questions, namespace="outside")
    assert through == direct
    assert through[0]["records"], "an SRV record of the cluster's DNS"
    log = eventually("the log to say so", lambda: (
        lambda log: log if 'domain="outside.example."' in log else None)(operator.proxy_log("agent-0")))
    line = [line for line in log.splitlines() if 'domain="outside.example."' in line][-1]
    assert "\tdns\t" in line and 'src.namespace="foo"' in line, line
    ip = next(
        pod["status"]["podIP"] for pod in operator.objects("pods", "istio-system", "app=ztunnel")
        if pod["spec"]["nodeName"] == f"k3d-{CLUSTER}-agent-0")
    metrics = operator.node("agent-0", "curl", "-sS", f"http://{ip}:15020/metrics")
    assert re.search(r'istio_dns_requests_total\{request_query_type="SRV",request_protocol="tcp",'
                     r'source_canonical_service="sleep"', metrics), metrics
    assert "istio_dns_upstream_request_duration_seconds_bucket" in metrics


def test_a_pod_that_opted_out_asks_the_resolver_itself(operator):
    answer = ask(operator, "httpbin.bar-1.foo.svc.cluster.local/1/udp", "httpbin.bar-1.svc.cluster.local/1/udp",
                 deployment="direct")
    assert answer[0]["code"] == 3 and answer[1]["records"][0][1] != 30


def test_names_work_on_while_a_running_pod_joins_and_leaves(operator):
    asking = operator.start(
        "kubectl", "exec", "-i", "deploy/sleep", "-n", "outside", "--", "python3", "-c", r'''
import socket, time
end = time.monotonic() + 12
asked = failed = 0
while time.monotonic() < end:
    asked += 1
    try:
        socket.getaddrinfo("httpbin.bar-1", 8000, socket.AF_INET)
    except OSError as error:
        failed += 1
        print(error)
    time.sleep(0.005)
print(asked, failed)
''')
    operator.kubectl("label", "namespace", "outside", "istio.io/dataplane-mode=ambient")
    eventually("outside to be captured", lambda: captured(operator, "outside"))
    said, trouble = asking.communicate(timeout=60)
    asked, failed = map(int, said.split()[-2:])
    assert asked > 100 and failed == 0, said + trouble


def test_names_are_left_alone_where_the_operator_says_so(operator):
    operator.ok(
        "martlet", "install", "--set", "profile=ambient", "--set", "values.cni.ambient.dnsCapture=false", "-y")
    eventually("names to go to the resolver", lambda: ask(
        operator, "httpbin.bar-1.foo.svc.cluster.local/1/udp")[0]["code"] == 3, 90)
    assert operator.call("/get").returncode == 0


def test_nothing_is_left(operator):
    operator.ok("martlet", "uninstall", "--purge", "-y")
    operator.ok("martlet", "lab", "delete", CLUSTER)
