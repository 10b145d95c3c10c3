"""Peers that no node proxy is: gRPC calls made by hand, and certificates of other authorities."""

import base64
import json
import pathlib
import subprocess
import time

CREATE_CERTIFICATE = "istio.v1.auth.IstioCertificateService/CreateCertificate"
XDS = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
PERMISSION_DENIED, UNAUTHENTICATED, INVALID_ARGUMENT = "7", "16", "3"


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, content) -> bytes:
    """A length-delimited field of a protobuf message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def struct(**values) -> bytes:
    """A google.protobuf.Struct of strings."""
    return b"".join(
        field(1, field(1, name) + field(2, field(3, value))) for name, value in values.items())


def certificate_request(csr: str, impersonated: str = "") -> bytes:
    """istio.v1.auth.IstioCertificateRequest"""
    metadata = field(4, struct(ImpersonatedIdentity=impersonated)) if impersonated else b""
    return field(1, csr) + metadata


def discovery_request(node: str, **metadata) -> bytes:
    """The first DeltaDiscoveryRequest of a node that wants every workload and service."""
    return field(1, field(1, node) + field(3, struct(**metadata))) + field(
        2, "type.googleapis.com/istio.workload.Address")


class Answer:
    """What came back from a call: `status` and `message` as gRPC has them, and the bytes of the messages."""

    def __init__(self, headers: str, body: bytes):
        fields = {}
        for line in headers.splitlines():
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        self.status = fields.get("grpc-status")
        self.message = fields.get("grpc-message", "")
        self.body = body
        self.headers = headers

    def __repr__(self):
        return f"status {self.status}, {self.message!r}, {len(self.body)} bytes\n{self.headers}"


class ControlPlane:
    """The gRPC port of istiod, as it is reached from inside a node."""

    def __init__(self, operator, folder: pathlib.Path, agent="agent-0"):
        self.operator, self.folder, self.agent = operator, folder, agent
        pod = operator.objects("pods", "istio-system", "app=istiod")[0]
        self.address = pod["status"]["podIP"]
        roots = operator.kubectl(
            "get", "configmap", "istio-ca-root-cert", "-n", "istio-system", "-o", "jsonpath={.data.root-cert\\.pem}")
        (folder / "roots.pem").write_text(roots)

    def call(self, method: str, message: bytes, token=None) -> Answer:
        """One message, and the end of ours. 5 s at most: a stream that is served does not end by itself."""
        (self.folder / "request").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        body = self.folder / "answer"
        body.write_bytes(b"")
        headers = self.operator.run(
            "martlet", "lab", "exec", f"k3d-e2e-{self.agent}", "--", "curl", "-sS", "--http2", "--max-time", "5",
            "--cacert", self.folder / "roots.pem", "--resolve", f"istiod.istio-system.svc:15012:{self.address}",
            "-H", "content-type: application/grpc", "-H", "te: trailers",
            *(["-H", f"authorization: Bearer {token}"] if token is not None else []),
            "--data-binary", f"@{self.folder / 'request'}", "-D", "-", "-o", body,
            f"https://istiod.istio-system.svc:15012/{method}")
        return Answer(headers.stdout, body.read_bytes())

    def log(self) -> str:
        return self.operator.kubectl("logs", "-n", "istio-system", "deploy/istiod", "--tail=500")


def openssl(folder, *arguments) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def request_for(folder) -> str:
    """A sound CSR for a fresh key."""
    openssl(
        folder, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/",
        "-keyout", "csr.key", "-out", "csr.pem")
    return (folder / "csr.pem").read_text()


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def expired(token: str, folder: pathlib.Path, cluster: str) -> str:
    """The same token with an end in the past, signed by the lab's API server's own key: no API server hands one out."""
    head, claims, _ = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    content["exp"] = int(time.time()) - 60
    signed = f"{head}.{base64url(json.dumps(content).encode())}"
    key = next(pathlib.Path("/var/lib/martlet/lab", cluster).rglob("service-account.key"))
    (folder / "signed").write_text(signed)
    openssl(folder, "dgst", "-sha256", "-sign", key, "-out", "signature", "signed")
    # SEQUENCE { INTEGER r, INTEGER s }, each perhaps with a leading zero; JWS wants 32 bytes of each.
    der = (folder / "signature").read_bytes()
    first = der[4:4 + der[3]]
    second = der[6 + der[3]:]
    return f"{signed}.{base64url(b''.join(n[-32:].rjust(32, bytes(1)) for n in (first, second)))}"


class Authority:
    """Signs workload certificates with a key of its own, or with one that was taken from somewhere."""

    def __init__(self, folder: pathlib.Path, certificate=None, key=None):
        self.folder = folder
        folder.mkdir()
        if certificate:
            (folder / "ca.pem").write_text(certificate)
            (folder / "ca.key").write_text(key)
        else:
            openssl(
                folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                "2", "-subj", "/O=stranger", "-keyout", "ca.key", "-out", "ca.pem")

    @classmethod
    def of_the_mesh(cls, operator, folder: pathlib.Path):
        def part(name):
            text = operator.kubectl(
                "get", "secret", "istio-ca-secret", "-n", "istio-system", "-o", f"jsonpath={{.data.{name}\\.pem}}")
            return base64.b64decode(text).decode()

        return cls(folder, part("ca-cert"), part("ca-key"))

    def issue(self, identity: str) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of a certificate for a SPIFFE URI, and of its key."""
        request_for(self.folder)
        (self.folder / "ext").write_text(
            f"subjectAltName=critical,URI:{identity}\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n")
        openssl(
            self.folder, "x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "1",
            "-set_serial", "7", "-extfile", "ext", "-out", "leaf.pem")
        return self.folder / "leaf.pem", self.folder / "csr.key"


def knock(operator, agent: str, address: str, certificate=None, key=None) -> str:
    """What openssl says of a connection from a node to the HBONE port of a pod; 5 s at most."""
    identity = ["-cert", certificate, "-key", key] if certificate else []
    done = operator.run(
        "martlet", "lab", "exec", f"k3d-e2e-{agent}", "--", "sh", "-c",
        'sleep 3 | timeout 5 openssl s_client "$@" 2>&1', "knock", "-connect", f"{address}:15008", "-alpn",
        "h2", "-tls1_3", *identity)
    return done.stdout + done.stderr
