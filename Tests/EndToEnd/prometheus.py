"""A real Prometheus in a lab.

Debian's has no discovery through Kubernetes: its list of targets is made of the pods' annotations here, as the rules of
Istio's documentation do it.
"""

import contextlib
import json
import subprocess
import time

from lab import ROOT, eventually

TOOLS = ROOT / ".tools" / "bin"
ADDRESS = "127.0.0.1:19090"


def targets(mesh):
    """What the pods ask for: `prometheus.io/scrape`, `/port` and `/path`."""
    found = []
    for pod in mesh.objects("pods"):
        notes = pod["metadata"].get("annotations", {})
        if notes.get("prometheus.io/scrape") != "true":
            continue
        labels = pod["metadata"]["labels"]
        found.append({
            "targets": [f"{pod['status']['podIP']}:{notes['prometheus.io/port']}"],
            "labels": {
                "__metrics_path__": notes.get("prometheus.io/path", "/metrics"), "pod": pod["metadata"]["name"],
                "namespace": pod["metadata"]["namespace"], "node": pod["spec"]["nodeName"],
                "app": next(
                    labels[key] for key in ("app", "k8s-app", "gateway.networking.k8s.io/gateway-name") if key in labels),
            }})
    return found


def inside(mesh, *command):
    """A program in the network of the node that Prometheus is on."""
    return mesh.run("martlet", "lab", "exec", f"k3d-{mesh.cluster}-agent-0", "--", *command, timeout=60)


class Prometheus:
    def __init__(self, mesh):
        self.mesh = mesh

    def ask(self, path, **parameters):
        words = [word for name, value in parameters.items() for word in ("--data-urlencode", f"{name}={value}")]
        done = inside(self.mesh, "curl", "-sS", "--max-time", "20", "-G", *words, f"http://{ADDRESS}/api/v1/{path}")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        return answer["data"]

    def wait_for_scrapes(self):
        """Returns when everybody has been scraped since."""
        now = time.time()
        eventually("everybody to be scraped", lambda: self.query("min(timestamp(up))")[()] > now)

    def query(self, text, *labels):
        """The values of an instant query by the values of some labels."""
        return {
            tuple(sample["metric"].get(label) for label in labels): float(sample["value"][1])
            for sample in self.ask("query", query=text)["result"]}


@contextlib.contextmanager
def prometheus_of(mesh, folder):
    (folder / "targets.json").write_text(json.dumps(targets(mesh)))
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "mesh", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}],
    }))
    log = folder / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            # It looks its host's name up, which takes 10 s where nobody answers.
            ["martlet", "lab", "exec", f"k3d-{mesh.cluster}-agent-0", "--", "unshare", "--uts", "sh", "-c",
             'hostname localhost && exec "$0" "$@"', TOOLS / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={ADDRESS}"],
            stdout=out, stderr=subprocess.STDOUT, env=mesh.environment)
    try:
        eventually(
            f"Prometheus to be ready; see {log}",
            lambda: inside(mesh, "curl", "-fsS", f"http://{ADDRESS}/-/ready").returncode == 0)
        yield Prometheus(mesh)
    finally:
        inside(mesh, "pkill", "-x", "prometheus")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
