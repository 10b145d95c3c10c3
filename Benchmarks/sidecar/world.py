"""A lab with the mesh, and crowds in it that no kubelet knows: pods of nobody's node, whose status is what is written here."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from lab import ROOT, Operator, eventually

from cluster import API, Refused

CLUSTER = "figures"
NODE = f"k3d-{CLUSTER}-agent-0"
PYTHON = ROOT / ".tools" / "python" / "bin" / "python"
HERE = pathlib.Path(__file__).resolve().parent


class World:
    """Without a mesh at first."""

    def __init__(self, operator: Operator):
        self.operator = operator
        operator.ok("martlet", "lab", "create", CLUSTER, "--agents", "1", timeout=300)
        self.api = API(operator.environment["KUBECONFIG"])
        self.folder = operator.folder

    def install(self):
        self.operator.ok("martlet", "install", "--set", "profile=ambient", "-y", timeout=300)
        roots = self.api.get("/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert")["data"]["root-cert.pem"]
        (self.folder / "roots.pem").write_text(roots)

    def namespace(self, name, **labels):
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        eventually(f"the account of {name}", lambda: self.has(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    def has(self, path):
        try:
            return self.api.get(path)
        except Refused:
            return None

    def ghost(self, namespace, name, address, **labels):
        """A pod that runs nowhere, and says that it is ready."""
        base = f"/api/v1/namespaces/{namespace}/pods"
        pod = self.api.create(base, {
            "metadata": {"name": name, "labels": labels},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "it", "image": "busybox"}]}})
        self.ready(namespace, name, True, phase="Running", podIP=address, podIPs=[{"ip": address}])
        return pod

    def ready(self, namespace, name, is_ready, **more):
        """What a kubelet says. Answers when it was answered, on the monotonic clock in nanoseconds."""
        conditions = [{"type": "Ready", "status": str(is_ready)}]
        self.api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": {"conditions": conditions, **more}})
        return time.monotonic_ns()

    def service(self, namespace, name, ports, selector=None):
        spec = {"ports": ports, **({"selector": selector} if selector else {})}
        self.api.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": spec})

    def slice(self, namespace, name, ports, addresses):
        self.api.create(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", {
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "ports": [{"name": port["name"], "port": port["port"]} for port in ports],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]})

    def sidecar(self, pod, address):
        """What the sidecar of a pod would begin its stream with."""
        meta = pod["metadata"]
        answer = self.api.create(f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/default/token", {"spec": {
            "audiences": ["istio-ca"], "expirationSeconds": 36000,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}}})
        return {
            "node": f"sidecar~{address}~{meta['name']}.{meta['namespace']}~{meta['namespace']}.svc.cluster.local",
            "token": answer["status"]["token"],
            "metadata": {"NAME": meta["name"], "NAMESPACE": meta["namespace"], "SERVICE_ACCOUNT": "default", "CLUSTER_ID": "Kubernetes"}}

    def control_plane(self):
        pods = self.api.get("/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod")["items"]
        return pods[0]["status"]["podIP"]

    def streams(self, clients):
        return Streams(self, clients)


class Streams:
    """streams.py in the network of a node."""

    def __init__(self, world, clients):
        file = world.folder / f"streams-{time.monotonic_ns()}.json"
        file.write_text(json.dumps({
            "target": f"{world.control_plane()}:15012", "name": "istiod.istio-system.svc",
            "roots": str(world.folder / "roots.pem"), "clients": clients}))
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            ["martlet", "lab", "exec", NODE, "--", PYTHON, HERE / "streams.py", file], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env=world.operator.environment)
        self.first = self.line()

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            self.errors.seek(0)
            raise SystemExit(f"the streams ended: {self.errors.read()[-2000:]}")
        return json.loads(text)

    def notes(self, word="more"):
        """All that came since the last time."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.line()

    def end(self):
        said = self.notes("end")
        self.process.stdin.close()
        self.process.wait(30)
        return said


def log(text):
    print(f"sidecars: {text}", file=sys.stderr, flush=True)
