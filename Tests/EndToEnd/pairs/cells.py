"""Every pair of client and server, and what has to become of a request between them."""

import itertools
from typing import NamedTuple

CLIENTS = ["outside", "sidecar", "ambient"]
SERVERS = ["outside", "sidecar", "ambient", "service", "workload", "envoy"]
# On the client's node and on the other one.
PLACES = ["here", "there"]
# What asks, and what the client says besides.
PROTOCOLS = {
    "HTTP/1.1": ("http://{host}/", {}),
    "HTTP/2": ("http://{host}:8080/", {"http2": True, "method": "POST", "body": "canary"}),
    "gRPC": ("grpc://{host}:7070", {}),
    "TCP": ("tcp://{host}:9090", {}),
    "server-first": ("server-first://{host}:9091", {}),
}
PORTS = {80, 8080, 7070, 9090, 9091}
HBONE_PORT = 15008
# By kind of server: for what its waypoint is, and of which class.
BEHIND_WAYPOINT = {
    "service": ("service", "istio-waypoint"), "workload": ("workload", "istio-waypoint"),
    "envoy": ("service", "martlet-envoy-waypoint")}
# Whose policies are the same in every phase, as Envoy judges the first request on a connection that is older than a waypoint's
# policy by what was in force before: the identity that they ask for.
FIXED = {"envoy": "ambient"}


class Cell(NamedTuple):
    client: str
    server: str
    place: str
    protocol: str

    def question(self, pod):
        """`pod`: the server's own address. A waypoint for workloads takes what is addressed to them; sidecars, which choose
        the pod themselves, go through it also when they are asked for the service."""
        url, more = PROTOCOLS[self.protocol]
        by_pod = self.client == "ambient" and self.server == "workload"
        host = pod if by_pod else f"{self.place}.to-{self.server}"
        return {"url": url.format(host=host), "timeout": 8.0, **more}


class Phase(NamedTuple):
    """`allowed`: whose identity the servers' policies ask for, if there are any."""

    strict: bool
    allowed: str | None = None

    def __str__(self):
        return ("STRICT" if self.strict else "PERMISSIVE") + (f", only the {self.allowed} client" if self.allowed else "")


CELLS = [Cell(*parts) for parts in itertools.product(CLIENTS, SERVERS, PLACES, PROTOCOLS)]
PHASES = [Phase(False), Phase(False, "sidecar"), Phase(False, "ambient"), Phase(True)]
REFUSED = "refused"


def wanted(cell, phase):
    """How the bytes cross the wire: `plain`, `mtls` (TLS to the server's own port), `hbone`; or `refused`."""
    if cell.server == "outside":
        return "plain"
    if cell.client == "outside":
        # Whoever is not in the mesh reaches a pod itself and no waypoint: the waypoint's policies are not asked.
        is_judged = phase.allowed is not None and cell.server not in BEHIND_WAYPOINT
        return REFUSED if phase.strict or is_judged else "plain"
    if FIXED.get(cell.server, phase.allowed) not in (None, cell.client):
        return REFUSED
    return "mtls" if cell.client == cell.server == "sidecar" else "hbone"


def became(cell, answer):
    """`answered`, `refused`, or what is neither."""
    if answer.get("code") == 200 and answer.get("grpcStatus", "0") == "0":
        pod = answer.get("echo", {}).get("pod", "")
        return "answered" if pod.startswith(f"{cell.place}-") else f"answered by {pod or 'nobody known'}"
    if "timed out" in answer.get("error", ""):
        return f"no answer: {answer['error']}"
    return REFUSED


def matrix(found):
    """A table in Markdown of what was found: `found[phase][cell]`."""
    phases = [phase for phase in PHASES if phase in found]
    lines = [
        "| client | server | node | protocol | " + " | ".join(map(str, phases)) + " |",
        "|---|---|---|---|" + "---|" * len(phases)]
    for cell in CELLS:
        lines.append(f"| {' | '.join(cell)} | " + " | ".join(found[phase].get(cell, "?") for phase in phases) + " |")
    return "\n".join(lines) + "\n"
