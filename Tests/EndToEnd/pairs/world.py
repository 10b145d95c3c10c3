"""A lab with a client and a server of every kind."""

import contextlib
import json
import threading
import time

from cells import BEHIND_WAYPOINT, CELLS, CLIENTS, FIXED, HBONE_PORT, PLACES, PORTS, REFUSED, SERVERS, became, wanted
from lab import Failed, eventually
from shop import IMAGE, Asker, Shop, deployment, document, programs

LABELS = {
    "outside": {}, "sidecar": {"istio-injection": "enabled"}, "ambient": {"istio.io/dataplane-mode": "ambient"},
    **{kind: {"istio.io/dataplane-mode": "ambient"} for kind in BEHIND_WAYPOINT}}
NODES = ["agent-0", "agent-1"]
GUARDED = [kind for kind in SERVERS if kind != "outside" and kind not in FIXED]


def server(place, namespace, node):
    container = {
        "image": IMAGE,
        "args": ["--port=80", "--port=8080", "--grpc=7070", "--tcp=9090", "--server-first=9091"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"tcpSocket": {"port": 9091}, "periodSeconds": 1}}
    ports = [
        {"name": "http", "port": 80}, {"name": "http2", "port": 8080}, {"name": "grpc", "port": 7070},
        {"name": "tcp-lines", "port": 9090}, {"name": "tcp-first", "port": 9091}]
    return [
        deployment(place, namespace, container, node, account="server", grace=1),
        document("Service", place, namespace, {"selector": {"app": place}, "ports": ports})]


def client(namespace, node):
    mount = [{"name": "programs", "mountPath": "/programs"}]
    return [
        document("ServiceAccount", "client", namespace), programs(namespace),
        deployment(
            "client", namespace, {"image": IMAGE, "command": ["sleep", "infinity"], "volumeMounts": mount}, node,
            account="client")]


class World(Shop):
    """`addresses` of pods by (namespace, app)."""

    def fill(self):
        nodes = [f"k3d-{self.cluster}-{node}" for node in NODES]
        self.apply(*(document("Namespace", f"from-{kind}", labels=LABELS[kind]) for kind in CLIENTS))
        self.apply(*(document("Namespace", f"to-{kind}", labels=LABELS[kind]) for kind in SERVERS))
        for kind, (traffic, engine) in BEHIND_WAYPOINT.items():
            self.ok(
                "martlet", "waypoint", "apply", "-n", f"to-{kind}", "--for", traffic, "--class", engine,
                "--enroll-namespace", "--wait", timeout=180)
        self.apply(*(self.guard(kind, allowed) for kind, allowed in FIXED.items()))
        for kind in SERVERS:
            self.apply(
                document("ServiceAccount", "server", f"to-{kind}"),
                *(each for place, node in zip(PLACES, nodes) for each in server(place, f"to-{kind}", node)))
        for kind in CLIENTS:
            self.apply(*client(f"from-{kind}", nodes[0]))
        namespaces = [f"to-{kind}" for kind in SERVERS] + [f"from-{kind}" for kind in CLIENTS]
        for namespace in namespaces:
            self.kubectl("rollout", "status", "deploy", "-n", namespace, "--timeout=120s", timeout=150)
        self.addresses = {
            (namespace, pod["metadata"]["labels"].get("app", "waypoint")): pod["status"]["podIP"]
            for namespace in namespaces for pod in self.objects("pods", namespace)}
        for kind in CLIENTS:
            self.askers[kind] = Asker(self, "client", f"from-{kind}")

    @staticmethod
    def guard(kind, allowed):
        """Of a server, or of its waypoint: lets in one client."""
        target = {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}]}
        principal = f"cluster.local/ns/from-{allowed}/sa/client"
        return document(
            "AuthorizationPolicy", "guard", f"to-{kind}", {
                **(target if kind in BEHIND_WAYPOINT else {}), "action": "ALLOW",
                "rules": [{"from": [{"source": {"principals": [principal]}}]}]}, group="security.istio.io/v1")

    def set(self, phase):
        """Mutual TLS and policies as the phase has them."""
        self.apply(document(
            "PeerAuthentication", "default", "istio-system", {"mtls": {"mode": "STRICT" if phase.strict else "PERMISSIVE"}},
            group="security.istio.io/v1"))
        guards = [self.guard(kind, phase.allowed) for kind in GUARDED]
        (self.apply if phase.allowed else self.remove)(*guards)

    def told(self, pod, what):
        """What a sidecar's Envoy has put into force: its routes, or its listeners."""
        return json.loads(self.ok("martlet", "proxy-config", what, pod, "-n", "to-sidecar", "-o", "json"))

    def is_told(self, pod, phase):
        """Whether the sidecar of a server knows the phase: what is asked of requests (its routes), of streams, and whether it
        takes what is no mutual TLS (its listeners)."""
        found = {each.get("name", ""): json.dumps(each) for each in self.told(pod, "route")}
        direct = [text for name, text in found.items() if name.startswith(("inbound|", "InboundPassthroughCluster"))]
        routes = direct + [text for name, text in found.items() if name.startswith("hbone/")]
        listeners = {each["name"]: each for each in self.told(pod, "listener") if "filter_chains" in each}
        inbound = json.dumps(listeners.get("virtualInbound", {}))
        parts = routes + [inbound, json.dumps(listeners.get("main_internal", {}))]
        principal = f"spiffe://cluster.local/ns/from-{phase.allowed}/sa/client"
        is_judged = [principal in part if phase.allowed else "/ns/from-" not in part for part in parts]
        is_strict = ["no mutual TLS" in text for text in direct] + ['"raw_buffer"' not in inbound]
        return bool(routes) and all(is_judged) and all(each == phase.strict for each in is_strict)

    def follow(self, phase):
        """Sets the phase and returns when the sidecars of servers have it in force, on connections that were open as on new
        ones. An Envoy shows what its main thread has handed to its workers, who take it before whatever reaches them later."""
        self.set(phase)
        for pod in self.objects("pods", "to-sidecar"):
            name = pod["metadata"]["name"]
            eventually(f"{name} to hear of {phase}", lambda: self.is_told(name, phase), 60)

    def settle(self, phase, cells=CELLS):
        """Sets the phase and returns what is not as it has to be, when nothing is wrong any more or it took too long. One round
        is enough: sidecars have the phase before it begins, and nothing of the other proxies depends on a connection's age."""
        self.follow(phase)
        wrong = {}

        def settled():
            wrong.clear()
            for cell, answer in self.ask_all(cells).items():
                if (outcome := became(cell, answer)) != (REFUSED if wanted(cell, phase) == REFUSED else "answered"):
                    wrong[cell] = outcome
            return not wrong

        try:
            eventually("every pair to be as it has to be", settled, 60)
        except Failed:
            pass
        return wrong

    def ask_all(self, cells):
        """What became of each, asked by all clients at once."""
        answers = {}

        def asks(kind):
            for cell in cells:
                if cell.client == kind:
                    answers[cell] = self.askers[kind].ask(
                        cell.question(self.addresses[f"to-{cell.server}", cell.place]))[0]

        threads = [threading.Thread(target=asks, args=(kind,)) for kind in CLIENTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    @contextlib.contextmanager
    def captured(self, files):
        """Writes what crosses the nodes while the body runs; `files` by node."""
        ports = " or ".join(f"port {port}" for port in sorted(PORTS | {HBONE_PORT}))
        captures = []
        for node, file in files.items():
            captures.append(self.start(
                "martlet", "lab", "exec", f"k3d-{self.cluster}-{node}", "--", "tcpdump", "--immediate-mode", "-Z", "root",
                "-B", "16384", "-U", "-s", "256", "-i", "any", "-w", file, f"tcp and ({ports})"))
            eventually("tcpdump to listen", lambda: "listening" in captures[-1].stderr.readline())
        try:
            yield
        finally:
            time.sleep(0.3)
            for node in files:
                self.run("martlet", "lab", "exec", f"k3d-{self.cluster}-{node}", "--", "pkill", "-x", "tcpdump")
            for capture in captures:
                capture.communicate(timeout=30)

    def way(self, cell, seen):
        """How the cell's bytes went: what was seen between the client, the server's pod and its waypoint."""
        port = {"HTTP/1.1": 80, "HTTP/2": 8080, "gRPC": 7070, "TCP": 9090, "server-first": 9091}[cell.protocol]
        client = self.addresses[f"from-{cell.client}", "client"]
        direct = seen.get((client, self.addresses[f"to-{cell.server}", cell.place]), set())
        found = {way for way, where in direct if where == port}
        hop = direct
        if cell.server in BEHIND_WAYPOINT:
            hop = seen.get((client, self.addresses[f"to-{cell.server}", "waypoint"]), set())
        if not found and ("hbone", HBONE_PORT) in hop:
            found = {"hbone"}
        return " and ".join(sorted(found)) or "nothing seen"
