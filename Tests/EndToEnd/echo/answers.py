"""What the echo server answers, whatever protocol asked."""

import json
import os
import re
import socket

DELAY_MAX = 300.0
BODY_MAX = 16 << 20
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Request:
    """`headers` is a list of pairs, in the order of arrival; `target` is path and query as they came."""

    def __init__(self, method, target, host, protocol, headers, tls=None):
        self.method, self.target, self.host, self.protocol = method, target, host, protocol
        self.headers, self.tls = headers, tls
        self.body = b""

    @property
    def path(self):
        return self.target.partition("?")[0]

    def values(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def parameters(self):
        pairs = (part.partition("=") for part in self.target.partition("?")[2].split("&"))
        return {name: value for name, _, value in pairs}


def seconds(text):
    """A duration as Go writes it, `1m30s`; None when it is none."""
    parts = re.findall(r"([0-9.]+)(ns|us|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def canonical(name):
    """`X-Header-Set` of `x-header-set`: in JSON names are as Go's servers have them."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def pod():
    return os.environ.get("POD_NAME") or socket.gethostname()


def place():
    return {
        "namespace": os.environ.get("NAMESPACE", ""), "ingress": os.environ.get("INGRESS_NAME", ""),
        "service": os.environ.get("SERVICE_NAME", ""), "pod": pod()}


def delay_of(request):
    """Seconds to wait before the answer, from `?delay=`."""
    return min(seconds(request.parameters.get("delay", "")) or 0.0, DELAY_MAX)


def answer(request):
    """Status, headers and body."""
    if request.path == "/health":
        return 200, [("Content-Type", "text/plain")], b"OK"
    if request.path.startswith("/status/"):
        code = re.fullmatch(r"/status/([2-5]\d\d)", request.target)
        return int(code[1]) if code else 400, [], b""
    if request.path == "/mirror":
        return 200, [*asked_for(request), ("Content-Type", "application/octet-stream")], request.body
    headers = {}
    for name, value in request.headers:
        headers.setdefault(canonical(name), []).append(value)
    # Go's servers keep the host apart.
    headers.pop("Host", None)
    document = {
        "path": request.target, "host": request.host, "method": request.method, "proto": request.protocol,
        "headers": headers, **place()}
    if request.tls:
        document["tls"] = request.tls
    body = json.dumps(document, indent=1).encode()
    return 200, [
        *asked_for(request), ("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")], body


def asked_for(request):
    """Headers that the request wants in the answer; values of one name are joined."""
    wanted = {}
    for line in request.values("x-echo-set-header"):
        for pair in line.split(","):
            name, _, value = pair.strip().partition(":")
            if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                wanted.setdefault(name, []).append(value.strip())
    return [(name, ",".join(values)) for name, values in wanted.items()]


def log(request, peer):
    """The line by which tests find a mirrored request."""
    print(f"Echoing back request made to {request.target} to client ({peer})", flush=True)
