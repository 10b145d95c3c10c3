"""A lab and what drives it: kubectl and martlet, as an operator types them."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MARTLET_BIN", ROOT / ".build" / "release"))
CLUSTER = "e2e"


class Failed(AssertionError):
    pass


class Operator:
    """Runs commands with the suite's kubeconfig and remembers nothing."""

    def __init__(self, folder: pathlib.Path, cluster: str = CLUSTER):
        self.folder, self.cluster = folder, cluster
        self.environment = dict(os.environ)
        self.environment["PATH"] = f"{BIN}:{ROOT}/.tools/bin:" + self.environment["PATH"]
        self.environment["KUBECONFIG"] = str(folder / "kubeconfig")
        self.environment["HOME"] = str(folder)

    def run(self, *command, input=None, timeout=120):
        """The finished process, whatever its status."""
        return subprocess.run(
            [str(word) for word in command], input=input, capture_output=True, text=True, timeout=timeout,
            env=self.environment)

    def ok(self, *command, input=None, timeout=120) -> str:
        """Standard output; fails with everything the command said when its status is not 0."""
        done = self.run(*command, input=input, timeout=timeout)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def refused(self, *command, saying: str, timeout=120) -> str:
        """What a command that has to fail said; fails when it succeeds or says something else."""
        done = self.run(*command, timeout=timeout)
        text = done.stdout + done.stderr
        assert done.returncode != 0, f"{command} succeeded: {text}"
        assert saying in text, f"{command} does not say {saying!r}: {text}"
        return text

    def start(self, *command, **options):
        return subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment, **options)

    def kubectl(self, *arguments, **options) -> str:
        return self.ok("kubectl", *arguments, **options)

    def objects(self, kind, namespace=None, selector=None):
        arguments = ["get", kind, "-o", "json"]
        arguments += ["-n", namespace] if namespace else ["-A"]
        if selector:
            arguments += ["-l", selector]
        return json.loads(self.kubectl(*arguments))["items"]

    def node(self, agent, *command, **options) -> str:
        """Runs a command inside a node, as `docker exec` would."""
        return self.ok("martlet", "lab", "exec", f"k3d-{self.cluster}-{agent}", "--", *command, **options)

    def proxy_log(self, agent) -> str:
        pods = [
            pod["metadata"]["name"] for pod in self.objects("pods", "istio-system", "app=ztunnel")
            if pod["spec"].get("nodeName") == f"k3d-{self.cluster}-{agent}"]
        return "\n".join(self.kubectl("logs", "-n", "istio-system", name, "--tail=1000") for name in pods)

    def call(self, path, namespace="foo", seconds=10):
        """curl from the sleep pod of `namespace` to httpbin; the finished process."""
        return self.run(
            "kubectl", "exec", "-i", "deploy/sleep", "-n", namespace, "--", "curl", "-sS", "--max-time", seconds,
            f"http://httpbin.bar-1:8000{path}", timeout=seconds + 20)


def eventually(what, check, seconds=30):
    """Returns the first true value of `check`; fails with what it last saw."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except Failed as error:
            last = error
        time.sleep(0.1)
    raise Failed(f"waited {seconds} s in vain for {what}; last: {last}")


@contextlib.contextmanager
def operator_of(cluster, folder):
    """Nothing is left of the lab afterwards, also when it never was made."""
    if os.geteuid() != 0:
        raise Failed("the end-to-end suite makes network namespaces: run as root")
    if not (BIN / "martlet").exists():
        raise Failed("nothing is built: run make build")
    operator = Operator(folder, cluster)
    operator.run("martlet", "lab", "delete", cluster)
    try:
        yield operator
    finally:
        operator.run("martlet", "lab", "delete", cluster)
    leftovers = [line for line in operator.ok("ip", "netns", "list").splitlines() if cluster in line]
    assert not leftovers, f"delete left network namespaces: {leftovers}"
