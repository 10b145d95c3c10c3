"""One lab for the conformance tests; or a cluster that is there already, named with CONFORMANCE_KUBECONFIG."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest

import expectations
import report
import tables

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BIN = pathlib.Path(os.environ.get("MARTLET_BIN", ROOT / ".build" / "release"))
CLUSTER = "conformance"
MESH, CONSUMER = "gateway-conformance-mesh", "gateway-conformance-mesh-consumer"
APPLICATIONS = {"v1": (MESH, "v1"), "v2": (MESH, "v2"), "consumer-v1": (CONSUMER, "v1")}
CONVERGENCE_SECONDS = 60
SUCCESSES = 3
outcomes = {}


class Cluster:
    def __init__(self, folder, kubeconfig=None):
        self.environment = dict(os.environ)
        self.environment["PATH"] = f"{BIN}:{ROOT}/.tools/bin:" + self.environment["PATH"]
        self.environment["KUBECONFIG"] = kubeconfig or str(folder / "kubeconfig")
        self.environment["HOME"] = str(folder)
        self.pods = {}

    def run(self, *command, input=None, timeout=120):
        return subprocess.run(
            [str(word) for word in command], input=input, capture_output=True, text=True, timeout=timeout,
            env=self.environment)

    def ok(self, *command, **options):
        done = self.run(*command, **options)
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"
        return done.stdout

    def kubectl(self, *arguments, **options):
        return self.ok("kubectl", *arguments, **options)

    def find_pods(self):
        for name, (namespace, version) in APPLICATIONS.items():
            found = json.loads(
                self.kubectl("get", "pods", "-n", namespace, "-l", f"app=echo,version={version}", "-o", "json"))["items"]
            self.pods[name] = found[0]

    def call(self, origin, url, headers=None, *more):
        """What the client inside the pod of `origin` got: one answer, or with --count a list."""
        pod = self.pods[origin]
        url = url.format(**{name: address(entry) for name, entry in self.pods.items() if "-" not in name})
        pairs = [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
        text = self.ok(
            "kubectl", "exec", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], "-c", "echo", "--",
            "client", url, "--output=json", *pairs, *more, timeout=300)
        answers = json.loads(text)
        return answers if "--count" in more else answers[0]

    def log(self, origin, since):
        pod = self.pods[origin]["metadata"]
        return self.kubectl("logs", "-n", pod["namespace"], pod["name"], "-c", "echo", f"--since-time={since}")

    def await_right(self, request):
        """The request is right several times in a row, within the time that configuration may take."""
        deadline = time.monotonic() + CONVERGENCE_SECONDS
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        successes, wrong = 0, None
        while successes < SUCCESSES:
            wrong = expectations.difference(
                request, self.call(request.get("from", "v1"), request["url"], request.get("headers")))
            successes = 0 if wrong else successes + 1
            if wrong:
                assert time.monotonic() < deadline, f"{request['url']} {request.get('headers', {})}: {wrong}"
                time.sleep(0.2)
        for origin in request.get("expect", {}).get("mirrored", []):
            while not re.search(r"Echoing back request made to \S+ to client", self.log(origin, begun)):
                assert time.monotonic() < deadline, f"{request['url']}: {origin} saw no copy"
                time.sleep(0.2)

    def apply(self, manifests):
        self.kubectl("apply", "-f", "-", input=documents(manifests))
        for manifest in manifests:
            if manifest["kind"].endswith("Route"):
                self.await_accepted(manifest)

    def await_accepted(self, manifest):
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        deadline = time.monotonic() + CONVERGENCE_SECONDS
        while True:
            live = json.loads(self.kubectl("get", manifest["kind"], name, "-n", namespace, "-o", "json"))
            parents = live.get("status", {}).get("parents", [])
            wanted = {"Accepted": "True", "ResolvedRefs": "True"}
            if parents and all(
                    {c["type"]: c["status"] for c in parent.get("conditions", [])
                     if c.get("observedGeneration", 0) >= live["metadata"]["generation"]}.items() >= wanted.items()
                    for parent in parents):
                return
            assert time.monotonic() < deadline, f"{manifest['kind']} {name} is not accepted: {parents}"
            time.sleep(0.1)

    def remove(self, manifests):
        self.run("kubectl", "delete", "--ignore-not-found", "-f", "-", input=documents(manifests))


def address(pod):
    ip = pod["status"]["podIP"]
    return f"[{ip}]" if ":" in ip else ip


def documents(manifests):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance")
    kubeconfig = os.environ.get("CONFORMANCE_KUBECONFIG")
    cluster = Cluster(folder, kubeconfig)
    if not kubeconfig:
        if os.geteuid() != 0:
            pytest.fail("the lab makes network namespaces: run as root")
        if not (BIN / "martlet").exists():
            pytest.fail("nothing is built: run make build")
        cluster.run("martlet", "lab", "delete", CLUSTER)
        cluster.ok("martlet", "lab", "create", CLUSTER, "--agents", "2", timeout=300)
    try:
        if not kubeconfig:
            cluster.ok("martlet", "install", "--set", "profile=ambient", "-y", timeout=300)
        prepare(cluster)
        yield cluster
    finally:
        if kubeconfig:
            cluster.run("kubectl", "delete", "--ignore-not-found", "--wait=false", "-f", HERE / "base.yaml")
        else:
            cluster.run("martlet", "lab", "delete", CLUSTER)


def prepare(cluster):
    cluster.kubectl("apply", "-f", HERE / "base.yaml")
    for namespace in (MESH, CONSUMER):
        cluster.kubectl("label", "--overwrite", "namespace", namespace, "istio.io/dataplane-mode=ambient")
        if os.environ.get("CONFORMANCE_WAYPOINT") != "no":
            cluster.ok(
                "martlet", "waypoint", "apply", "-n", namespace, "--enroll-namespace", "--overwrite", "--wait",
                "--class", os.environ.get("CONFORMANCE_CLASS", "istio-waypoint"), timeout=180)
    for namespace, version in APPLICATIONS.values():
        cluster.kubectl(
            "rollout", "status", f"deploy/echo-{version}", "-n", namespace, "--timeout=120s", timeout=180)
    cluster.find_pods()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    result = yield
    name = item.funcargs.get("table", {}).get("name") if hasattr(item, "funcargs") else None
    if name and "cluster" in item.fixturenames and (call.when == "call" or result.failed):
        outcomes[name] = outcomes.get(name, True) and result.passed
    return result


def pytest_sessionfinish(session):
    if not outcomes:
        return
    path = pathlib.Path(os.environ.get("CONFORMANCE_REPORT", ROOT / ".build" / "conformance-report.yaml"))
    version = subprocess.run([BIN / "martlet", "--version"], capture_output=True, text=True).stdout.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.text(report.document(tables.all_tests(), outcomes, version)))
    print(f"\nreport: {path}")
