"""A shop behind a waypoint: two versions of one application, clients with identities of their own, and an issuer of tokens
outside of the mesh."""

import json
import pathlib
import threading

from lab import Failed, Operator, eventually

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = ["asker.py", "kept.py", "load.py", "keys.py"]
IMAGE = "gcr.io/k8s-staging-gateway-api/echo-advanced:lab"
CLIENTS = ["alice", "mallory"]


def document(kind, name, namespace=None, spec=None, labels=None, group="v1", **more):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **({"labels": labels} if labels else {})}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, **({"spec": spec} if spec is not None else {}), **more}


def deployment(name, namespace, container, node=None, labels=None, account=None, replicas=1, grace=0):
    spec = {
        "terminationGracePeriodSeconds": grace, "containers": [{"name": name, **container}],
        **({"volumes": [{"name": "programs", "configMap": {"name": "programs"}}]} if "volumeMounts" in container else {}),
        **({"serviceAccountName": account} if account else {}),
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {})}
    own = {"app": name, **(labels or {})}
    return document("Deployment", name, namespace, {
        "replicas": replicas, "selector": {"matchLabels": own}, "template": {"metadata": {"labels": own}, "spec": spec},
    }, group="apps/v1")


def echo(version, namespace="shop", app="echo", replicas=1):
    """A version of the application; what `echo/server.py` does."""
    return deployment(f"{app}-{version}", namespace, {
        "image": IMAGE, "args": ["--tcp=9090", "--port=80", "--port=8080", "--grpc=7070"],
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{field}"}}}
            for name, field in (("POD_NAME", "name"), ("NAMESPACE", "namespace"))],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }, labels={"app": app, "version": version}, replicas=replicas, grace=1)


def service(name, selector, namespace="shop", labels=None):
    ports = [
        {"name": "http", "port": 80, "appProtocol": "http"}, {"name": "http-alt", "port": 8080, "appProtocol": "http"},
        {"name": "grpc", "port": 7070, "appProtocol": "grpc"}, {"name": "tcp-lines", "port": 9090}]
    return document("Service", name, namespace, {"selector": selector, "ports": ports}, labels)


def client(name, node):
    mount = [{"name": "programs", "mountPath": "/programs"}]
    return [
        document("ServiceAccount", name, "clients"),
        deployment(
            name, "clients", {"image": IMAGE, "command": ["sleep", "infinity"], "volumeMounts": mount}, node,
            {"version": "v1"}, name)]


def keys():
    container = {
        "image": "python", "command": ["python3", "-u", "/programs/keys.py"],
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
    ports = [{"name": "http", "port": 8000}]
    return [
        document("Service", "keys", "outside", {"selector": {"app": "keys"}, "ports": ports}),
        deployment("keys", "outside", container)]


def programs(namespace):
    return document(
        "ConfigMap", "programs", namespace, data={name: (HERE / name).read_text() for name in PROGRAMS})


def route(name, parent, port, rules, namespace="shop", kind="HTTPRoute", parent_namespace=None):
    """`rules` name services; they get the port."""
    def complete(rule):
        return rule | {"backendRefs": [
            {"name": backend, "port": port, "weight": weight} for backend, weight in rule["backendRefs"].items()]}

    reference = {"group": "", "kind": "Service", "name": parent, "port": port}
    if parent_namespace:
        reference["namespace"] = parent_namespace
    spec = {"parentRefs": [reference], "rules": [complete(rule) for rule in rules]}
    return document(kind, name, namespace, spec, group="gateway.networking.k8s.io/v1")


def paths(prefix):
    return [{"path": {"type": "PathPrefix", "value": prefix}}]


def load_routes(edit=0, weights=(1, 1), app="echo", namespace="shop"):
    """What load.py counts on, for the ports of both versions of HTTP. `edit` and `weights` may change at any time."""
    either = {f"{app}-v1": weights[0], f"{app}-v2": weights[1]}
    change = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "X-Edit", "value": str(edit)}]}}
    rules = [
        {"matches": paths("/v1"), "backendRefs": {f"{app}-v1": 1}},
        {"matches": paths("/v2"), "backendRefs": {f"{app}-v2": 1}},
        {"matches": paths("/edited"), "filters": [change], "backendRefs": either},
        {"matches": paths("/"), "backendRefs": either}]
    return [route(f"{app}-{port}", app, port, rules, namespace) for port in (80, 7070)]


def policy(name, target, spec, namespace="shop", kind="Service"):
    group = {"Service": "", "Gateway": "gateway.networking.k8s.io"}[kind]
    return document(
        "AuthorizationPolicy", name, namespace, spec | {"targetRefs": [{"group": group, "kind": kind, "name": target}]},
        group="security.istio.io/v1")


class Asker:
    """A client's pod that asks what it is told to, over one `kubectl exec`."""

    def __init__(self, operator, name, namespace="clients"):
        self.process = operator.start(
            "kubectl", "exec", "-i", "-n", namespace, f"deploy/{name}", "-c", name, "--", "sh", "-c",
            'exec "${ECHO_PYTHON:-python3}" -u /programs/asker.py', stdin=-1)
        self.lock = threading.Lock()
        first = self.process.stdout.readline()
        if first.strip() != "asking":
            raise Failed(f"{name} does not ask: {first}{self.process.stderr.read()}")

    def ask(self, question):
        with self.lock:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise Failed(f"the asker ended: {self.process.stderr.read()}")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except Exception:
            self.process.kill()
        self.process.stdout.close()
        self.process.stderr.close()


class Shop(Operator):
    """The lab with the mesh and the shop in it."""

    def __init__(self, operator):
        super().__init__(operator.folder, operator.cluster)
        self.askers = {}

    def create(self, agents=2):
        self.ok("martlet", "lab", "create", self.cluster, "--agents", agents, timeout=300)
        self.ok("martlet", "install", "--set", "profile=ambient", "-y", timeout=300)
        # The Gateway API's definitions, which are not the mesh's own: the article applies the project's bundle.
        self.fill()

    def fill(self):
        mesh = {"istio.io/dataplane-mode": "ambient"}
        self.apply(
            document("Namespace", "shop", labels=mesh), document("Namespace", "clients", labels=mesh),
            document("Namespace", "outside"))
        nodes = [f"k3d-{self.cluster}-agent-{index}" for index in range(2)]
        self.apply(
            *(programs(namespace) for namespace in ("clients", "outside")),
            service("echo", {"app": "echo"}), *(service(f"echo-{v}", {"app": "echo", "version": v}) for v in ("v1", "v2")),
            echo("v1"), echo("v2"), *client("alice", nodes[0]), *client("mallory", nodes[1]), *keys())
        for namespace in ("shop", "clients", "outside"):
            self.kubectl("rollout", "status", "deploy", "-n", namespace, "--timeout=120s", timeout=150)
        for namespace in ("shop", "clients"):
            eventually(f"{namespace} to be captured", lambda: all(
                pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"
                for pod in self.objects("pods", namespace) if "deletionTimestamp" not in pod["metadata"]))
        for name in CLIENTS:
            self.askers[name] = Asker(self, name)

    def end(self):
        for asker in self.askers.values():
            asker.end()
        self.askers = {}

    def apply(self, *documents):
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def remove(self, *documents):
        self.kubectl(
            "delete", "--ignore-not-found", "-f", "-",
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def asks(self, url="http://echo.shop/", who="alice", **question):
        """All answers."""
        return self.askers[who].ask({"url": url, **question})

    def ask(self, url="http://echo.shop/", who="alice", **question):
        return self.asks(url, who, **question)[0]

    def code(self, url="http://echo.shop/", who="alice", **question):
        """The status, or the error."""
        answer = self.ask(url, who, **question)
        return answer.get("code", answer.get("error"))

    def await_codes(self, what, *wanted, seconds=40):
        """`wanted`: pairs of a status (or None for no answer at all) and a question; all of them at one time."""
        def wrong():
            found = [self.code(**question) for _, question in wanted]
            return [
                f"{question}: {code}, wanted {want}" for (want, question), code in zip(wanted, found)
                if (want is None) == isinstance(code, int) or want not in (None, code)]

        last = []

        def right():
            last[:] = wrong()
            return not last

        try:
            eventually(what, right, seconds)
        except Failed:
            raise Failed(f"waited {seconds} s in vain for {what}: {'; '.join(last)}") from None

    def condition(self, kind, name, namespace, wanted):
        """The condition, if it is about the object as it is now."""
        live = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        found = next((c for c in live.get("status", {}).get("conditions", []) if c["type"] == wanted), None)
        generation = live["metadata"].get("generation", 0)
        return found if found and int(found.get("observedGeneration", generation)) == generation else None

    def pods_of(self, gateway="waypoint", namespace="shop"):
        return [
            pod for pod in self.objects("pods", namespace, f"gateway.networking.k8s.io/gateway-name={gateway}")
            if "deletionTimestamp" not in pod["metadata"]]

    def log_of(self, gateway="waypoint", namespace="shop", tail=400):
        return "\n".join(
            self.kubectl("logs", "-n", namespace, pod["metadata"]["name"], f"--tail={tail}")
            for pod in self.pods_of(gateway, namespace))

    def logged(self, *words, gateway="waypoint", namespace="shop"):
        """The lines of the waypoint's log that have all the words."""
        return [line for line in self.log_of(gateway, namespace).splitlines() if all(word in line for word in words)]

    def load(self, *hosts, seconds=3600, rate=100, held=4, who="alice"):
        return Loading(self, who, hosts, seconds, rate, held)


class Loading:
    """load.py in a client's pod."""

    def __init__(self, shop, who, hosts, seconds, rate, held):
        self.shop, self.who = shop, who
        self.process = shop.start(
            "kubectl", "exec", "-n", "clients", f"deploy/{who}", "--", "sh", "-c",
            'exec "${ECHO_PYTHON:-python3}" -u /programs/load.py "$@"', "load", *hosts, "--seconds", seconds, "--rate", rate,
            "--held", held)
        self.troubles, self.counts, self.summary = [], None, None
        first = self.process.stdout.readline()
        if '"loading"' not in first:
            raise Failed(f"no load: {first}{self.process.stderr.read()}")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            event = said.pop("event")
            if event == "counts":
                self.counts = said
            elif event == "summary":
                self.summary = said
            else:
                self.troubles.append({"event": event, **said})

    def stop(self):
        """What the client saw."""
        self.shop.run(
            "kubectl", "exec", "-n", "clients", f"deploy/{self.who}", "--", "pkill", "-TERM", "-f", "programs/load.py")
        self.reader.join(120)
        if self.summary is None:
            self.process.kill()
            raise Failed(f"the load ended without a summary: {self.process.stderr.read()}")
        self.process.wait(30)
        return self.summary
