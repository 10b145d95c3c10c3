"""An operator takes a workload's certificate back: the list travels from the Secret to every node proxy, and nobody talks to
that workload any more."""

import base64
import json
import re

import pytest

from conftest import CLUSTER, eventually
from test_3_services_and_policies import HTTPBIN, SLEEP

# The control plane looks at the Secret every minute, and a node looks after its mounted files as often.
TRAVEL_SECONDS = 240

CONFIGURATION = """
[ca]
default_ca = mesh
[mesh]
database = {folder}/index.txt
crlnumber = {folder}/number
default_md = sha256
default_crl_days = 30
"""


class Authority:
    """A root that signs workloads itself, and lists what it takes back."""

    def __init__(self, operator, folder):
        self.operator, self.folder = operator, folder
        (folder / "ca.cnf").write_text(CONFIGURATION.format(folder=folder))
        (folder / "index.txt").write_text("")
        (folder / "number").write_text("01\n")
        operator.ok(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 365,
            "-subj", "/O=an operator's own", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", folder / "key.pem", "-out", folder / "root.pem")

    def revocations(self) -> str:
        return self.operator.ok(
            "openssl", "ca", "-config", self.folder / "ca.cnf", "-gencrl", "-keyfile", self.folder / "key.pem",
            "-cert", self.folder / "root.pem")

    def revoke(self, serial):
        (self.folder / "index.txt").write_text(f"R\t360101000000Z\t260101000000Z\t{serial}\tunknown\t/O=a workload\n")

    def secret(self) -> str:
        root = (self.folder / "root.pem").read_text()
        files = {
            "ca-cert.pem": root, "root-cert.pem": root, "cert-chain.pem": root,
            "ca-key.pem": (self.folder / "key.pem").read_text(), "ca-crl.pem": self.revocations()}
        return json.dumps({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "data": {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}})


@pytest.fixture(scope="module")
def authority(operator, tmp_path_factory):
    return Authority(operator, tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mesh(operator, authority):
    operator.ok("martlet", "lab", "create", CLUSTER, "--agents", "2")
    operator.kubectl("create", "namespace", "istio-system")
    operator.kubectl("apply", "-f", "-", input=authority.secret())
    operator.ok(
        "martlet", "install", "--set", "profile=ambient", "--set", "values.ztunnel.peerCaCrl.enabled=true", "-y",
        timeout=300)
    for namespace, manifest in (("foo", SLEEP), ("bar-1", HTTPBIN)):
        operator.kubectl("create", "namespace", namespace)
        operator.kubectl("label", "namespace", namespace, "istio.io/dataplane-mode=ambient")
        operator.kubectl("create", "-n", namespace, "-f", "-", input=manifest)
    operator.kubectl("rollout", "status", "deploy/sleep", "-n", "foo", "--timeout=60s")
    operator.kubectl("rollout", "status", "deploy/httpbin", "-n", "bar-1", "--timeout=60s")
    yield operator
    operator.ok("martlet", "lab", "delete", CLUSTER)


def serial_of_httpbin(mesh) -> str:
    """What httpbin's node proxy proves itself with: it says so before it asks who we are."""
    address = mesh.objects("pods", "bar-1", "app=httpbin")[0]["status"]["podIP"]
    # It ends with an alert, because we have no certificate.
    done = mesh.run(
        "martlet", "lab", "exec", f"k3d-{CLUSTER}-agent-0", "--", "sh", "-c",
        f"openssl s_client -connect {address}:15008 </dev/null 2>/dev/null | openssl x509 -noout -serial")
    found = re.search(r"serial=([0-9A-F]+)", done.stdout)
    assert found, f"no certificate from {address}:15008: {done.stdout} {done.stderr}"
    return found.group(1)


def test_nobody_talks_to_a_workload_whose_certificate_is_revoked(mesh, authority):
    eventually("a call under the operator's own root", lambda: mesh.call("/get").returncode == 0, seconds=60)
    published = mesh.objects("configmaps", "istio-system")
    assert any(item["metadata"]["name"] == "istio-ca-crl" for item in published), "the list is published"

    authority.revoke(serial_of_httpbin(mesh))
    mesh.kubectl("apply", "-f", "-", input=authority.secret())
    # The pooled tunnel is cut, and a new one is not made.
    eventually("the call to be refused", lambda: mesh.call("/get").returncode != 0, seconds=TRAVEL_SECONDS)
    log = eventually(
        "the reason in the client's log",
        lambda: [line for line in mesh.proxy_log("agent-0").splitlines() + mesh.proxy_log("agent-1").splitlines()
                 if "revoked by" in line])
    assert "its certificate" in log[-1] or "peer certificate" in log[-1], log[-1]
    assert mesh.call("/get").returncode != 0, "and it stays so"
