"""The whole path of one connection, from an empty machine to an empty machine, as the demo tells it."""

import json
import os
import pathlib
import re
import signal
import time

import pytest

import peers
from conftest import CLUSTER, ROOT, eventually

DEMO = ROOT / "scripts" / "demo"
SLEEP = (DEMO / "sleep.yaml").read_text().replace("k3d-k3s-default", f"k3d-{CLUSTER}")
HTTPBIN = (DEMO / "httpbin.yaml").read_text().replace("k3d-k3s-default", f"k3d-{CLUSTER}")
IDENTITY = "spiffe://cluster.local/ns/foo/sa/default"


def captured(operator, namespace):
    pods = [pod for pod in operator.objects("pods", namespace) if "deletionTimestamp" not in pod["metadata"]]
    states = [pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") for pod in pods]
    return pods and all(state == "enabled" for state in states)


def free(operator, namespace):
    pods = operator.objects("pods", namespace)
    return all("ambient.istio.io/redirection" not in pod["metadata"].get("annotations", {}) for pod in pods)


def test_2_a_lab_of_five_nodes(operator):
    operator.ok(
        "martlet", "lab", "create", CLUSTER, "--api-port", "16550", "-p", "19080:80@loadbalancer", "-p",
        "19443:443@loadbalancer", "--agents", "4", "--k3s-arg", "--disable=traefik@server:*")
    names = {node["metadata"]["name"] for node in operator.objects("nodes")}
    assert names == {f"k3d-{CLUSTER}-server-0"} | {f"k3d-{CLUSTER}-agent-{i}" for i in range(4)}
    table = operator.kubectl("get", "nodes", "-o", "wide")
    assert len(re.findall(r"\bReady\b", table)) == 5, table
    assert "is running at https://127.0.0.1:16550" in re.sub(r"\x1b\[[0-9;]*m", "", operator.kubectl("cluster-info"))


def test_2_a_second_lab_of_that_name_is_refused(operator):
    operator.refused("martlet", "lab", "create", CLUSTER, saying=CLUSTER)
    assert len(operator.objects("nodes")) == 5


def test_3_the_mesh_is_installed_and_verified(operator):
    done = operator.run("martlet", "verify-install")
    assert done.returncode != 0 and "is missing" in done.stdout
    done = operator.run("martlet", "install", "--set", "profile=ambient", "-y")
    assert done.returncode == 0, done.stderr
    for component in ("Istio core", "Istiod", "CNI", "Ztunnel"):
        assert f"{component} installed" in done.stderr
    assert "Installation complete" in done.stderr
    text = operator.ok("martlet", "verify-install")
    assert text.count("tunnelled, src.identity=") == 5, text
    assert "installed and verified successfully" in text


def test_3_installing_again_changes_nothing(operator):
    def generations():
        return {
            (item["kind"], item["metadata"]["name"]): item["metadata"]["generation"]
            for kind in ("deployments", "daemonsets") for item in operator.objects(kind, "istio-system")}

    before = generations()
    operator.ok("martlet", "install", "--set", "profile=ambient", "-y")
    assert generations() == before


def test_4_two_services_as_a_tutorial_has_them(operator):
    for namespace in ("foo", "bar-1"):
        operator.kubectl("create", "namespace", namespace)
        operator.kubectl("label", "namespace", namespace, "istio.io/dataplane-mode=ambient")
    operator.kubectl("create", "-n", "foo", "-f", "-", input=SLEEP)
    operator.kubectl("create", "-n", "bar-1", "-f", "-", input=HTTPBIN)
    operator.kubectl("rollout", "status", "deploy/sleep", "-n", "foo", "--timeout=60s")
    operator.kubectl("rollout", "status", "deploy/httpbin", "-n", "bar-1", "--timeout=60s")
    eventually("foo to be captured", lambda: captured(operator, "foo"))
    eventually("bar-1 to be captured", lambda: captured(operator, "bar-1"))


def test_5_and_6_the_call_goes_through_a_tunnel(operator):
    source = operator.objects("pods", "foo", "app=sleep")[0]["status"]["podIP"]
    capture = operator.start(
        "martlet", "lab", "exec", f"k3d-{CLUSTER}-agent-1", "--", "timeout", "20", "tcpdump", "--immediate-mode", "-i", "eth0", "-U", "-c",
        "2000", "-A", "-n", "tcp")
    eventually("tcpdump to listen", lambda: "listening" in capture.stderr.readline())
    answer = operator.call("/get?word=secret-word")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["origin"] == source
    time.sleep(0.5)
    operator.node("agent-1", "pkill", "-x", "tcpdump")
    wire = capture.communicate(timeout=20)[0]
    assert re.search(r"\.15008[: ]", wire), "nothing went through port 15008"
    assert "secret-word" not in wire, "the request crossed the wire in plaintext"

    line = eventually("the outbound line", lambda: [
        l for l in operator.proxy_log("agent-0").splitlines()
        if 'direction="outbound"' in l and 'dst.service="httpbin.bar-1.svc.cluster.local"' in l])[-1]
    assert f'src.identity="{IDENTITY}"' in line and "dst.hbone_addr=" in line and "connection complete" in line
    line = eventually("the inbound line", lambda: [
        l for l in operator.proxy_log("agent-1").splitlines()
        if 'direction="inbound"' in l and f'src.identity="{IDENTITY}"' in l])[-1]
    assert 'dst.workload="httpbin-' in line and 'src.workload="sleep-' in line and 'src.namespace="foo"' in line


def test_7_a_policy_for_somebody_else_refuses_us_and_is_named(operator):
    operator.kubectl("apply", "-f", DEMO / "only-somebody-else.yaml")
    eventually("the call to be refused", lambda: operator.call("/get").returncode != 0)
    eventually("the refusal in the log", lambda: "bar-1/only-somebody-else" in operator.proxy_log("agent-1"))
    operator.kubectl("delete", "-f", DEMO / "only-somebody-else.yaml")
    eventually("the call to work again", lambda: operator.call("/get").returncode == 0)


def test_7_strict_refuses_plaintext_from_outside_the_mesh(operator):
    operator.kubectl("create", "namespace", "outside")
    operator.kubectl("create", "-n", "outside", "-f", "-", input=SLEEP)
    operator.kubectl("rollout", "status", "deploy/sleep", "-n", "outside", "--timeout=60s")
    eventually("plaintext to be accepted", lambda: operator.call("/get", "outside").returncode == 0)
    operator.kubectl("apply", "-f", DEMO / "strict.yaml")
    eventually("plaintext to be refused", lambda: operator.call("/get", "outside").returncode != 0)
    assert operator.call("/get").returncode == 0
    operator.kubectl("delete", "-f", DEMO / "strict.yaml")
    eventually("plaintext to be accepted again", lambda: operator.call("/get", "outside").returncode == 0)


def test_7_a_tightened_policy_ends_connections_that_are_open(operator):
    slow = operator.start(
        "kubectl", "exec", "-i", "deploy/sleep", "-n", "foo", "--", "curl", "-sS", "--max-time", "30",
        "http://httpbin.bar-1:8000/drip?duration=20&numbytes=20&delay=0")
    time.sleep(1.5)
    operator.kubectl("apply", "-f", DEMO / "only-somebody-else.yaml")
    started = time.monotonic()
    slow.communicate(timeout=30)
    assert time.monotonic() - started < 10 and slow.returncode != 0
    operator.kubectl("delete", "-f", DEMO / "only-somebody-else.yaml")
    eventually("the call to work again", lambda: operator.call("/get").returncode == 0)


def test_7_a_port_of_a_pod_is_forwarded(operator):
    forward = operator.start("kubectl", "port-forward", "-n", "bar-1", "deploy/httpbin", "18000:80")
    try:
        assert "Forwarding from" in forward.stdout.readline(), forward.stderr.read()
        for _ in range(3):
            assert "httpbin" in operator.ok("curl", "-sS", "--max-time", "10", "-H", "Host: httpbin", "http://127.0.0.1:18000/get")
    finally:
        forward.kill()
        forward.wait()


def test_7_an_api_server_that_died_is_found_again_by_everybody(operator):
    pods = {pod["metadata"]["uid"] for pod in operator.objects("pods")}
    server = int(pathlib.Path(f"/run/martlet/lab/{CLUSTER}/server.pid").read_text().split()[0])
    os.kill(server, signal.SIGKILL)
    eventually("the API server to be gone", lambda: operator.run("kubectl", "get", "--raw", "/readyz").returncode != 0)
    operator.ok("martlet", "lab", "start", CLUSTER)
    assert {pod["metadata"]["uid"] for pod in operator.objects("pods")} == pods
    eventually("the call to work", lambda: operator.call("/get").returncode == 0)
    # The controllers make a pod, the scheduler places it, a kubelet starts it, the node agent captures it, the control
    # plane tells the proxies of it, and of a policy.
    operator.kubectl("scale", "deploy/sleep", "-n", "outside", "--replicas=2")
    operator.kubectl("rollout", "status", "deploy/sleep", "-n", "outside", "--timeout=60s")
    operator.kubectl("label", "namespace", "outside", "istio.io/dataplane-mode=ambient")
    eventually("outside to be captured", lambda: captured(operator, "outside"))
    operator.kubectl("apply", "-f", DEMO / "strict.yaml")
    eventually("the newcomers to be let in", lambda: operator.call("/get", "outside").returncode == 0)
    operator.kubectl("label", "namespace", "outside", "istio.io/dataplane-mode-")
    eventually("outside to leave", lambda: free(operator, "outside"))
    eventually("plaintext to be refused", lambda: operator.call("/get", "outside").returncode != 0)
    operator.kubectl("delete", "-f", DEMO / "strict.yaml")
    nodes = operator.objects("nodes")
    assert all(c["status"] == "True" for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready")


@pytest.fixture(scope="module")
def istiod(operator, tmp_path_factory):
    return peers.ControlPlane(operator, tmp_path_factory.mktemp("istiod"))


def token(operator, account, namespace, *options):
    return operator.kubectl("create", "token", account, "-n", namespace, *options).strip()


def proxy_of(operator, agent):
    return next(
        pod for pod in operator.objects("pods", "istio-system", "app=ztunnel")
        if pod["spec"]["nodeName"] == f"k3d-{CLUSTER}-{agent}")


def proxy_token(operator, agent):
    """As the node proxy of that node has it: for the CA, and bound to its pod."""
    pod = proxy_of(operator, agent)["metadata"]
    return token(
        operator, "ztunnel", "istio-system", "--audience", "istio-ca", "--bound-object-kind", "Pod",
        "--bound-object-name", pod["name"], "--bound-object-uid", pod["uid"])


def test_7_a_caller_without_a_good_token_is_told_what_is_wanted(operator, istiod, tmp_path):
    csr = peers.request_for(tmp_path)
    node = peers.discovery_request("ztunnel~10.0.0.1~x.istio-system~istio-system.svc.cluster.local", NAMESPACE="istio-system")
    good = proxy_token(operator, "agent-0")
    tampered = good[:-8] + ("A" * 8 if good[-8:] != "A" * 8 else "B" * 8)
    bad = {
        "none": None, "nonsense": "nonsense", "tampered": tampered,
        "for the API server": token(operator, "ztunnel", "istio-system"),
        "for somebody else": token(operator, "ztunnel", "istio-system", "--audience", "vault"),
        "expired": peers.expired(good, tmp_path, CLUSTER),
    }
    for method, message in ((peers.CREATE_CERTIFICATE, peers.certificate_request(csr)), (peers.XDS, node)):
        for what, value in bad.items():
            answer = istiod.call(method, message, value)
            assert answer.status == peers.UNAUTHENTICATED, (what, answer)
            assert "istio-ca" in answer.message and "token" in answer.message, (what, answer)
            assert not answer.body, (what, answer)
    log = istiod.log()
    for reason in ("carries no authorization header", "is not valid", "caller not authenticated"):
        assert reason in log, reason


def test_7_only_node_proxies_may_read_the_state_of_the_mesh(operator, istiod):
    def ask(value, namespace):
        node = peers.discovery_request(f"ztunnel~10.0.0.1~x.{namespace}~{namespace}.svc.cluster.local", NAMESPACE=namespace)
        return istiod.call(peers.XDS, node, value)

    answer = ask(proxy_token(operator, "agent-0"), "istio-system")
    assert b"httpbin.bar-1.svc.cluster.local" in answer.body, answer
    application = token(operator, "default", "foo", "--audience", "istio-ca")
    answer = ask(application, "foo")
    assert answer.status == peers.PERMISSION_DENIED and "foo/default" in answer.message, answer
    assert b"httpbin" not in answer.body
    answer = ask(proxy_token(operator, "agent-0"), "foo")
    assert answer.status == peers.PERMISSION_DENIED and "says namespace foo" in answer.message, answer


def test_7_a_request_that_cannot_be_signed_is_an_invalid_argument(operator, istiod, tmp_path):
    good = proxy_token(operator, "agent-0")
    sound = peers.request_for(tmp_path)
    lines = sound.splitlines()
    lines[2] = lines[2][::-1]
    for csr in ("", "nonsense", "\n".join(lines), sound.replace("CERTIFICATE REQUEST", "CERTIFICATE"), sound[:150]):
        answer = istiod.call(peers.CREATE_CERTIFICATE, peers.certificate_request(csr), good)
        assert answer.status == peers.INVALID_ARGUMENT and "signing request" in answer.message, (csr, answer)
    assert "CA: signing failed" in istiod.log()
    answer = istiod.call(peers.CREATE_CERTIFICATE, peers.certificate_request(sound), good)
    assert answer.status == "0" and b"BEGIN CERTIFICATE" in answer.body, answer


def test_7_nobody_gets_the_identity_of_a_pod_that_is_not_on_its_node(operator, istiod, tmp_path):
    csr = peers.request_for(tmp_path)

    def ask(value, identity):
        return istiod.call(peers.CREATE_CERTIFICATE, peers.certificate_request(csr, identity), value)

    httpbin = "spiffe://cluster.local/ns/bar-1/sa/default"
    assert ask(proxy_token(operator, "agent-1"), httpbin).status == "0", "httpbin runs there"
    for value, identity, reason in (
            (proxy_token(operator, "agent-2"), httpbin, "no instances of bar-1/default found on node"),
            (token(operator, "default", "foo", "--audience", "istio-ca"), httpbin, "is not allowed to impersonate"),
            (token(operator, "ztunnel", "istio-system", "--audience", "istio-ca"), httpbin, "is not bound to a pod"),
            (proxy_token(operator, "agent-1"), "spiffe://other.example/ns/bar-1/sa/default", "is not of trust domain"),
            (proxy_token(operator, "agent-1"), "spiffe://cluster.local/ns/bar-1", "failed to validate")):
        answer = ask(value, identity)
        assert answer.status == peers.UNAUTHENTICATED and "impersonation" in answer.message, (reason, answer)
        assert not answer.body, reason
        assert reason in istiod.log(), reason


def test_7_a_peer_with_a_foreign_certificate_is_refused_and_the_log_says_why(operator, tmp_path):
    pod = operator.objects("pods", "bar-1", "app=httpbin")[0]["status"]["podIP"]
    stranger = peers.Authority(tmp_path / "stranger")
    ours = peers.Authority.of_the_mesh(operator, tmp_path / "ours")
    for certificate, alert, reason in (
            ((), "certificate required", "peer did not return a certificate"),
            (stranger.issue(IDENTITY), "unknown ca", "is not trusted"),
            (ours.issue("spiffe://other.example/ns/foo/sa/default"), "access denied", "not of trust domain")):
        said = peers.knock(operator, "agent-0", pod, *certificate)
        assert alert in said.lower(), said
        eventually(f"'{reason}' in the log", lambda: [
            line for line in operator.proxy_log("agent-1").splitlines()
            if 'direction="inbound"' in line and reason in line.lower().replace("_", " ")])
    assert operator.call("/get").returncode == 0


def test_7_nothing_is_left_of_all_that(operator):
    """No process has ended over it, no stream is open but those of the node proxies, and the mesh works."""
    for pod in operator.objects("pods", "istio-system"):
        assert all(status["restartCount"] == 0 for status in pod["status"]["containerStatuses"]), pod["metadata"]["name"]
    address = operator.objects("pods", "istio-system", "app=istiod")[0]["status"]["podIP"]

    def accounts():
        clients = json.loads(operator.node("agent-0", "curl", "-sS", f"http://{address}:15014/debug/syncz"))
        return [client["account"] for client in clients] == ["istio-system/ztunnel"] * 5

    eventually("five node proxies and nobody else", accounts)
    metrics = operator.node("agent-0", "curl", "-sS", f"http://{address}:15014/metrics")
    for name in ("citadel_server_csr_count", "citadel_server_authentication_failure_count",
                 "martlet_xds_refused_callers_total", "martlet_xds_authentication_failures_total"):
        assert re.search(rf"^{name} [1-9]", metrics, re.MULTILINE), metrics
    assert operator.call("/get").returncode == 0


def slow_answer(operator):
    return operator.start(
        "kubectl", "exec", "-i", "deploy/sleep", "-n", "foo", "--", "curl", "-sS", "--max-time", "40",
        "http://httpbin.bar-1:8000/drip?duration=6&numbytes=12&delay=0")


def test_8_leaving_by_label_breaks_no_open_connection(operator):
    before = operator.objects("pods", "bar-1")
    slow = slow_answer(operator)
    time.sleep(1.5)
    operator.kubectl("label", "namespace", "bar-1", "istio.io/dataplane-mode-")
    eventually("httpbin to leave the mesh", lambda: free(operator, "bar-1"), 60)
    body, trouble = slow.communicate(timeout=40)
    assert len(body) == 12, f"{len(body)} of 12 bytes: {trouble}"
    eventually("plain traffic to flow", lambda: operator.call("/get").returncode == 0)
    after = operator.objects("pods", "bar-1")
    assert [pod["metadata"]["uid"] for pod in after] == [pod["metadata"]["uid"] for pod in before]
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in after)
    operator.kubectl("label", "namespace", "bar-1", "istio.io/dataplane-mode=ambient")
    eventually("httpbin to be captured again", lambda: captured(operator, "bar-1"))
    eventually("the call to work", lambda: operator.call("/get").returncode == 0)


def test_8_uninstalling_breaks_no_open_connection(operator):
    slow = slow_answer(operator)
    time.sleep(1.5)
    operator.ok("martlet", "uninstall", "--purge", "-y")
    body, trouble = slow.communicate(timeout=40)
    assert len(body) == 12, f"{len(body)} of 12 bytes: {trouble}"
    assert free(operator, "foo") and free(operator, "bar-1")
    eventually("plain traffic to flow", lambda: operator.call("/get").returncode == 0)
    assert not operator.objects("daemonsets", "istio-system")
    rules = operator.node("agent-1", "sh", "-c", "for n in $(ls /var/run/netns); do ip netns exec $n nft list tables; done")
    assert "mesh" not in rules and "istio" not in rules, rules


def test_9_nothing_outlives_the_lab(operator):
    operator.ok("martlet", "lab", "delete", CLUSTER)
    assert CLUSTER not in operator.ok("ip", "-o", "link")
    assert f"lab/{CLUSTER}" not in operator.ok("cat", "/proc/mounts")
