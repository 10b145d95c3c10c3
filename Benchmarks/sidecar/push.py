"""From the write of a pod's readiness to the arrival of its endpoints at many sidecars."""

import random
import socket
import statistics
import struct
import subprocess
import time

from cluster import Busy, cpu_seconds, process, quantile
from lab import eventually
from world import NODE, log

SERVED = 10
PAUSE = (0.15, 0.35)
ARRIVAL_MAX = 20
TARGET = "outbound|80||target.served.svc.cluster.local"


def crowd(world, count):
    """Sidecars, and a service with endpoints, of pods that run nowhere."""
    world.namespace("crowd")
    world.namespace("served")
    world.service("served", "target", [{"name": "http", "port": 80}], {"app": "target"})
    for index in range(SERVED):
        world.ghost("served", f"target-{index}", f"10.250.0.{index + 1}", app="target")
    clients = []
    for index in range(count):
        address = f"10.250.{1 + index // 200}.{1 + index % 200}"
        pod = world.ghost(
            "crowd", f"crowd-{index}", address, app="crowd", **{"security.istio.io/tlsMode": "istio"})
        clients.append(world.sidecar(pod, address))
    return clients


def measure(world, clients, changes, capture):
    """Figures of `changes` changes. `capture`: a file for what crosses the wire."""
    log(f"{len(clients)} streams")
    begin = time.monotonic()
    streams = world.streams(clients)
    connected = time.monotonic() - begin
    plane = process("martlet", "control")
    wire = subprocess.Popen(
        ["martlet", "lab", "exec", NODE, "--", "tcpdump", "--immediate-mode", "-Z", "root", "-B", "16384", "-U", "-s", "96", "-i", "any",
         "-w", capture, "tcp src port 15012"], stderr=subprocess.PIPE, text=True, env=world.operator.environment)
    eventually("tcpdump to listen", lambda: "listening" in wire.stderr.readline())
    time.sleep(2)
    before = streams.notes()
    written, used = [], cpu_seconds(plane)
    # Between the clock of the capture and ours.
    offset = time.time_ns() - time.monotonic_ns()
    notes = []
    with Busy() as busy:
        for index in range(changes):
            began = time.monotonic_ns()
            written.append((began, world.ready("served", f"target-{index % SERVED}", (index // SERVED) % 2 == 1)))
            notes.append(arrivals(streams, len(clients)))
    cpu = cpu_seconds(plane) - used
    after = streams.notes()
    world.operator.run("martlet", "lab", "exec", NODE, "--", "pkill", "-x", "tcpdump")
    wire.communicate(timeout=30)
    streams.end()
    for index in range(SERVED):
        world.ready("served", f"target-{index}", True)
    figures = evaluate(written, notes)
    figures["wire"] = on_the_wire(capture, [answered + offset for _, answered in written], len(clients))
    figures |= {
        "connect_s": connected, "cores": busy.cores, "plane_cpu_ms": 1000 * cpu / changes,
        "client_cpu_ms": 1000 * (after["cpu"] - before["cpu"]) / changes}
    return figures


def arrivals(streams, count):
    """Notes of a change, asked for when it should be with all clients; as often as it is not, so that no change meets the next one."""
    found, end = [], time.monotonic() + ARRIVAL_MAX
    while True:
        time.sleep(random.uniform(*PAUSE))
        found += streams.notes()["notes"]
        seen = {index for index, _, type, names, _, _ in found if type == "ClusterLoadAssignment" and names == [TARGET]}
        if len(seen) == count:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"a change reached {len(seen)} of {count} clients in {ARRIVAL_MAX} s")


def evaluate(written, notes):
    """`written`: for each change when its write began and was answered; `notes`: of each."""
    delays, firsts, lasts, others, size = [], [], [], 0, 0
    write = [(answered - began) / 1e6 for began, answered in written]
    for (_, answered), brought in zip(written, notes):
        arrived = {}
        for index, at, type, names, count, length in brought:
            if type == "ClusterLoadAssignment" and names == [TARGET] and index not in arrived:
                arrived[index], size = (at - answered) / 1e6, length
            else:
                others += 1
        delays += arrived.values()
        firsts.append(min(arrived.values()))
        lasts.append(max(arrived.values()))
    clients = len(arrived)
    return {
        "changes": len(written), "clients": clients, "others": others, "bytes": size, "write_ms": statistics.median(write),
        **{f"{name}_{label}": quantile(values, share) for name, values in (("all", delays), ("first", firsts), ("last", lasts))
           for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))}}


def on_the_wire(file, answered, clients):
    """The same, by when the response's first packet was at the client's socket: how much is the client's own doing."""
    with open(file, "rb") as capture:
        data = capture.read()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    nanoseconds = data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
    link, at = struct.unpack(order + "I", data[20:24])[0], 24
    # LINUX_SLL2 or LINUX_SLL.
    head, where = {276: (20, 0), 113: (16, 14)}[link]
    packets = []
    while at + 16 <= len(data):
        seconds, part, length, _ = struct.unpack(order + "IIII", data[at:at + 16])
        frame = data[at + 16:at + 16 + length]
        at += 16 + length
        if struct.unpack(">H", frame[where:where + 2])[0] != 0x0800:
            continue
        ip = frame[head:]
        size = struct.unpack(">H", ip[2:4])[0] - 4 * (ip[0] & 15)
        tcp = ip[4 * (ip[0] & 15):]
        payload = size - 4 * (tcp[12] >> 4)
        # Frames of HTTP/2 that only manage the connection are shorter than any response.
        if payload > 200:
            packets.append((seconds * 10**9 + part * (1 if nanoseconds else 1000), socket.inet_ntoa(ip[16:20]), tcp[2:4]))
    delays, ends = [], answered[1:] + [2**63]
    for begin, end in zip(answered, ends):
        seen = {}
        for when, address, port in packets:
            if begin - 50_000_000 <= when < end - 50_000_000:
                seen.setdefault((address, port), (when - begin) / 1e6)
        delays += seen.values()
    share = len(delays) / (len(answered) * clients)
    return {"share": share, **{label: quantile(delays, part) for label, part in (("p50", 0.5), ("p99", 0.99), ("max", 1))}}
