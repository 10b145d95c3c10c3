"""Restarts, under traffic that notices everything: nothing dropped, and nothing in plaintext.

MARTLET_RESTARTS (3): rollouts of the node proxies in the test of many. MARTLET_RATE (300): requests a second.
"""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest

from conftest import CLUSTER, Failed, eventually

RESTARTS = int(os.environ.get("MARTLET_RESTARTS", "3"))
RATE = int(os.environ.get("MARTLET_RATE", "300"))
TRAFFIC = pathlib.Path(__file__).with_name("traffic.py").read_text()
CANARY = re.search(r'CANARY = b"([^"]+)"', TRAFFIC).group(1).encode()
NAMESPACE = "restart"
SYSTEM = "istio-system"
CLIENT_NODE, SERVER_NODE = "agent-0", "agent-1"

POD = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: restart}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {{kubernetes.io/hostname: k3d-{cluster}-{node}}}
      containers:
      - name: {name}
        image: python
        command: {command}
        volumeMounts: [{{name: traffic, mountPath: /traffic}}]
      volumes: [{{name: traffic, configMap: {{name: traffic}}}}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: server, namespace: restart}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8000}, {name: tcp-echo, port: 8001}]
"""
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: restart}
spec: {}
"""


def pod(name, node, command):
    return POD.format(name=name, node=node, cluster=CLUSTER, command=json.dumps(command))


class Mesh:
    """The lab with the mesh, a client and a server in it."""

    def __init__(self, operator):
        self.operator = operator

    def address(self, app):
        return self.operator.objects("pods", NAMESPACE, f"app={app}")[0]["status"]["podIP"]

    def annotation(self, app):
        found = self.operator.objects("pods", NAMESPACE, f"app={app}")
        return found and found[0]["metadata"].get("annotations", {}).get("ambient.istio.io/redirection")

    def load(self, seconds, rate=RATE, held=50):
        """Starts the client; `finish` returns what it saw."""
        return self.operator.start(
            "kubectl", "exec", "-n", NAMESPACE, "deploy/client", "--", "python3", "/traffic/traffic.py", "load",
            "server." + NAMESPACE, "--seconds", seconds, "--rate", rate, "--idle", held, "--streaming", held)

    def finish(self, load, title):
        output, trouble = load.communicate(timeout=180)
        if load.returncode != 0:
            raise Failed(f"the client ended with {load.returncode}: {output}\n{trouble}")
        seen = json.loads(output.strip().splitlines()[-1])
        print(f"\n{title}: {json.dumps(seen)}")
        return seen

    def stop(self, load):
        """Asks the client to come to its end before its time."""
        self.operator.run(
            "kubectl", "exec", "-n", NAMESPACE, "deploy/client", "--", "pkill", "-TERM", "-f", "traffic.py load")

    def call(self, seconds=2):
        return self.operator.run(
            "kubectl", "exec", "-n", NAMESPACE, "deploy/client", "--", "curl", "-sS", "--max-time", seconds,
            f"http://server.{NAMESPACE}:8000/{CANARY.decode()}", timeout=60)

    def proxies(self, node):
        """Process ids of the node proxies on a node, oldest first."""
        found = []
        for process in pathlib.Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                environment = (process / "environ").read_bytes().split(b"\0")
                started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
            except OSError:
                continue
            if arguments[:1] and arguments[0].endswith(b"martlet") and b"proxy" in arguments[1:2] \
                    and f"NODE_NAME=k3d-{CLUSTER}-{node}".encode() in environment:
                found.append((started, int(process.name)))
        return [number for _, number in sorted(found)]

    def agents(self, node):
        return [
            int(process.name) for process in pathlib.Path("/proc").iterdir() if process.name.isdigit()
            and reads(process / "cmdline").split(b"\0")[1:2] == [b"node-agent"]
            and f"NODE_NAME=k3d-{CLUSTER}-{node}".encode() in reads(process / "environ").split(b"\0")]

    def roll(self, what="ds/ztunnel"):
        self.operator.kubectl("rollout", "restart", what, "-n", SYSTEM)
        self.operator.kubectl("rollout", "status", what, "-n", SYSTEM, "--timeout=120s", timeout=150)

    def in_pod(self, app, *command):
        """Runs a program of the node in the network namespace of a pod."""
        node = CLIENT_NODE if app == "client" else SERVER_NODE
        address = self.address(app)
        script = (
            'for n in $(ls /var/run/netns); do ip netns exec "$n" ip -o addr show 2>/dev/null | grep -qw "$0" || continue; '
            'exec ip netns exec "$n" "$@"; done; echo "no namespace has $0" >&2; exit 1')
        return self.operator.node(node, "sh", "-c", script, address, *command)


def reads(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Wire:
    """Captures what goes over the wire between the two pods' nodes while the body runs."""

    def __init__(self, mesh, folder):
        self.mesh = mesh
        self.files = {node: folder / f"{node}-{time.monotonic_ns()}.pcap" for node in (CLIENT_NODE, SERVER_NODE)}

    def __enter__(self):
        client, server = self.mesh.address("client"), self.mesh.address("server")
        self.captures = []
        for node, file in self.files.items():
            capture = self.mesh.operator.start(
                "martlet", "lab", "exec", f"k3d-{CLUSTER}-{node}", "--", "tcpdump", "--immediate-mode", "-Z", "root",
                "-B", "16384", "-U", "-s", "512", "-i", "eth0", "-w", file, "host", client, "and", "host", server,
                "and", "tcp")
            eventually("tcpdump to listen", lambda: "listening" in capture.stderr.readline())
            self.captures.append(capture)
        return self

    def __exit__(self, *trouble):
        time.sleep(0.3)
        for node in self.files:
            self.mesh.operator.run("martlet", "lab", "exec", f"k3d-{CLUSTER}-{node}", "--", "pkill", "-x", "tcpdump")
        for capture in self.captures:
            capture.communicate(timeout=30)

    def assert_sealed(self):
        """Everything between the two pods went through port 15008, and no application byte is readable in it."""
        packets = 0
        for file in self.files.values():
            bytes_seen = file.read_bytes()
            assert CANARY not in bytes_seen, f"application bytes crossed the wire in plaintext: {file}"
            outside = self.mesh.operator.ok("tcpdump", "-nn", "-r", file, "tcp and not port 15008", timeout=120)
            assert not outside.strip(), f"packets outside the tunnel:\n{outside[:2000]}"
            packets += len(bytes_seen)
        assert packets > 5_000, "the capture saw nothing"
        for file in self.files.values():
            file.unlink()


def assert_nothing_lost(seen):
    assert seen["failed"] == 0, json.dumps(seen, indent=1)
    assert all(count > 0 for count in seen["counts"].values()), seen


@pytest.fixture(scope="module")
def mesh(operator):
    operator.ok("martlet", "lab", "create", CLUSTER, "--api-port", "16550", "--agents", "2", timeout=300)
    done = operator.run("martlet", "install", "--set", "profile=ambient", "-y", timeout=300)
    assert done.returncode == 0, done.stderr
    operator.kubectl("create", "namespace", NAMESPACE)
    operator.kubectl("label", "namespace", NAMESPACE, "istio.io/dataplane-mode=ambient")
    operator.kubectl("create", "configmap", "traffic", "-n", NAMESPACE, f"--from-literal=traffic.py={TRAFFIC}")
    operator.kubectl("apply", "-f", "-", input=SERVICE)
    operator.kubectl(
        "apply", "-f", "-", input=pod("server", SERVER_NODE, ["python3", "/traffic/traffic.py", "serve"]))
    operator.kubectl("apply", "-f", "-", input=pod("client", CLIENT_NODE, ["sleep", "365d"]))
    mesh = Mesh(operator)
    for app in ("client", "server"):
        operator.kubectl("rollout", "status", f"deploy/{app}", "-n", NAMESPACE, "--timeout=60s")
        eventually(f"{app} to be captured", lambda: mesh.annotation(app) == "enabled")
    eventually("the first call to work", lambda: mesh.call().returncode == 0)
    yield mesh
    operator.run("martlet", "lab", "delete", CLUSTER)


def test_connections_that_wait_move_to_the_next_proxy(mesh):
    for app in ("client", "server"):
        assert mesh.in_pod(app, "cat", "/proc/sys/net/ipv4/tcp_migrate_req").strip() == "1"


def test_rollouts_of_the_node_proxies_lose_nothing(mesh, tmp_path):
    durations = []
    with Wire(mesh, tmp_path) as wire:
        load = mesh.load(3600)
        time.sleep(2)
        for _ in range(RESTARTS):
            begun = time.monotonic()
            mesh.roll()
            durations.append(round(time.monotonic() - begun, 1))
        time.sleep(2)
        mesh.stop(load)
        seen = mesh.finish(load, f"{RESTARTS} rollouts of the node proxies, {durations} s each")
    assert_nothing_lost(seen)
    wire.assert_sealed()


def test_a_second_generation_started_by_hand_takes_over_and_gives_back(mesh, tmp_path):
    operator = mesh.operator
    ours = json.loads(operator.kubectl("get", "ds/ztunnel", "-n", SYSTEM, "-o", "json"))
    spec = ours["spec"]
    for labels in (spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
        labels["app"] = "ztunnel-next"
    spec["template"]["metadata"]["labels"]["generation"] = "next"
    second = {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ztunnel-next", "namespace": SYSTEM},
        "spec": spec}
    with Wire(mesh, tmp_path) as wire:
        load = mesh.load(3600)
        time.sleep(1)
        before = {node: mesh.proxies(node) for node in (CLIENT_NODE, SERVER_NODE)}
        assert all(len(found) == 1 for found in before.values()), before
        operator.kubectl("apply", "-f", "-", input=json.dumps(second))
        operator.kubectl("rollout", "status", "ds/ztunnel-next", "-n", SYSTEM, "--timeout=60s")
        took = {}
        for node, (old,) in before.items():
            os.kill(old, 15)
            begun = time.monotonic()
            eventually("the old proxy to end", lambda: old not in mesh.proxies(node), 28)
            took[node] = round(time.monotonic() - begun, 1)
        # The kubelet has started the first ones again: back to them.
        operator.kubectl("rollout", "status", "ds/ztunnel", "-n", SYSTEM, "--timeout=60s")
        operator.kubectl("delete", "ds/ztunnel-next", "-n", SYSTEM, timeout=60)
        eventually(
            "one proxy a node", lambda: all(len(mesh.proxies(node)) == 1 for node in before), 40)
        mesh.stop(load)
        seen = mesh.finish(load, f"hand-over by SIGTERM and back; the old ones ended after {took} s")
    assert_nothing_lost(seen)
    wire.assert_sealed()
    # Connections live 8 s at most: whoever is empty ends, and does not wait for the deadline of 25 s.
    assert all(seconds < 20 for seconds in took.values()), took


def test_a_new_generation_that_cannot_start_leaves_the_old_one_alone(mesh):
    operator = mesh.operator
    load = mesh.load(3600)
    operator.kubectl("set", "env", "ds/ztunnel", "-n", SYSTEM, "XDS_ADDRESS=nobody.istio-system.svc:15012")
    eventually(
        "a proxy of the broken generation",
        lambda: any(len(mesh.proxies(node)) > 1 for node in (CLIENT_NODE, SERVER_NODE, "server-0")), 30)
    # A pod that comes meanwhile is served as well.
    operator.kubectl("apply", "-f", "-", input=pod("late", CLIENT_NODE, ["sleep", "365d"]))
    operator.kubectl("rollout", "status", "deploy/late", "-n", NAMESPACE, "--timeout=60s")
    eventually("the late pod to be captured", lambda: mesh.annotation("late") == "enabled")
    eventually("the late pod to be served", lambda: operator.run(
        "kubectl", "exec", "-n", NAMESPACE, "deploy/late", "--", "curl", "-sS", "--max-time", "5",
        "http://server.restart:8000/").returncode == 0)
    time.sleep(3)
    operator.kubectl("rollout", "undo", "ds/ztunnel", "-n", SYSTEM)
    operator.kubectl("rollout", "status", "ds/ztunnel", "-n", SYSTEM, "--timeout=120s", timeout=150)
    operator.kubectl("delete", "deploy/late", "-n", NAMESPACE)
    mesh.stop(load)
    assert_nothing_lost(mesh.finish(load, "a generation that cannot start"))


def test_pods_come_and_go_during_a_hand_over(mesh):
    operator = mesh.operator
    load = mesh.load(3600)
    operator.kubectl("apply", "-f", "-", input=pod("early", CLIENT_NODE, ["sleep", "365d"]))
    operator.kubectl("rollout", "status", "deploy/early", "-n", NAMESPACE, "--timeout=60s")
    operator.kubectl("rollout", "restart", "ds/ztunnel", "-n", SYSTEM)
    operator.kubectl("delete", "deploy/early", "-n", NAMESPACE, "--wait=false")
    names = [f"during-{number}" for number in range(4)]
    for name in names:
        operator.kubectl("apply", "-f", "-", input=pod(name, CLIENT_NODE, ["sleep", "365d"]))
        time.sleep(1)
    operator.kubectl("rollout", "status", "ds/ztunnel", "-n", SYSTEM, "--timeout=120s", timeout=150)
    for name in names:
        operator.kubectl("rollout", "status", f"deploy/{name}", "-n", NAMESPACE, "--timeout=60s")
        eventually(f"{name} to be captured", lambda: mesh.annotation(name) == "enabled")
        eventually(f"{name} to be served", lambda: operator.run(
            "kubectl", "exec", "-n", NAMESPACE, f"deploy/{name}", "--", "curl", "-sS", "--max-time", "5",
            "http://server.restart:8000/").returncode == 0)
        operator.kubectl("delete", f"deploy/{name}", "-n", NAMESPACE, "--wait=false")
    mesh.stop(load)
    assert_nothing_lost(mesh.finish(load, "pods that come and go during a hand-over"))


@pytest.mark.parametrize("node", [CLIENT_NODE, SERVER_NODE])
def test_a_killed_proxy_fails_closed_and_works_within_a_second_of_its_return(mesh, tmp_path, node):
    app = "client" if node == CLIENT_NODE else "server"
    with Wire(mesh, tmp_path) as wire:
        load = mesh.load(3600, rate=20, held=10)
        probe = mesh.operator.start(
            "kubectl", "exec", "-n", NAMESPACE, "deploy/client", "--", "python3", "/traffic/traffic.py", "probe",
            "server." + NAMESPACE, "--seconds", "60")
        assert "probing" in probe.stdout.readline()
        time.sleep(1)
        (old,) = mesh.proxies(node)
        os.kill(old, 9)
        killed = time.time()
        eventually("the proxy to come back", lambda: mesh.proxies(node) not in ([], [old]), 60)
        started = time.time()
        eventually("the proxy to listen", lambda: ":15008" in mesh.in_pod(app, "ss", "-Hltn"), 60)
        listens = time.time()
        outage = json.loads(probe.communicate(timeout=90)[0].strip().splitlines()[-1])
        mesh.stop(load)
        seen = mesh.finish(load, f"SIGKILL on {node}")
    wire.assert_sealed()
    assert outage["works_at"], f"calls never worked again: {outage}"
    print(
        f"SIGKILL on {node}: fails after {outage['fails_at'] - killed:.2f} s, process back after {started - killed:.2f} s, "
        f"listens after {listens - killed:.2f} s, works after {outage['works_at'] - killed:.2f} s; "
        f"{outage['failures']} calls refused meanwhile, {seen['failed']} of the load failed")
    # And what a request takes on this machine at this time.
    assert outage["works_at"] - listens < 1 + outage["usual_s"]


@pytest.mark.parametrize("signal", [15, 9])
def test_the_node_agent_restarts_and_nobody_notices(mesh, signal):
    operator = mesh.operator
    load = mesh.load(3600)
    time.sleep(1)
    for node in (CLIENT_NODE, SERVER_NODE):
        (old,) = mesh.agents(node)
        os.kill(old, signal)
        eventually("the agent to come back", lambda: mesh.agents(node) not in ([], [old]), 40)
    assert mesh.annotation("client") == mesh.annotation("server") == "enabled"
    operator.kubectl("rollout", "status", "ds/istio-cni-node", "-n", SYSTEM, "--timeout=60s")
    eventually("the proxies to be ready again", lambda: operator.run(
        "kubectl", "rollout", "status", "ds/ztunnel", "-n", SYSTEM, "--timeout=5s").returncode == 0)
    time.sleep(2)
    mesh.stop(load)
    assert_nothing_lost(mesh.finish(load, f"signal {signal} to the node agents"))
    # And it does its work: a new pod is captured.
    operator.kubectl("apply", "-f", "-", input=pod("after", CLIENT_NODE, ["sleep", "365d"]))
    operator.kubectl("rollout", "status", "deploy/after", "-n", NAMESPACE, "--timeout=60s")
    eventually("a new pod to be captured", lambda: mesh.annotation("after") == "enabled")
    operator.kubectl("delete", "deploy/after", "-n", NAMESPACE)


def test_without_a_control_plane_the_proxies_go_on_and_hear_of_policies_after_it_is_back(mesh):
    operator = mesh.operator
    load = mesh.load(3600)
    operator.kubectl("scale", "deploy/istiod", "-n", SYSTEM, "--replicas=0")
    eventually("the control plane to be gone", lambda: not operator.objects("pods", SYSTEM, "app=istiod"), 60)
    operator.kubectl("apply", "-f", "-", input=NOBODY)
    time.sleep(5)
    assert mesh.call().returncode == 0
    mesh.stop(load)
    assert_nothing_lost(mesh.finish(load, "without a control plane"))
    operator.kubectl("scale", "deploy/istiod", "-n", SYSTEM, "--replicas=1")
    operator.kubectl("rollout", "status", "deploy/istiod", "-n", SYSTEM, "--timeout=120s", timeout=150)
    eventually("the policy to be obeyed", lambda: mesh.call().returncode != 0, 40)
    operator.kubectl("delete", "-f", "-", input=NOBODY)
    eventually("calls to work again", lambda: mesh.call().returncode == 0)
