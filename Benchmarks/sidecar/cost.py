"""What services cost a real Envoy and its stream."""

import os
import pathlib
import re
import statistics
import subprocess
import time

from cluster import cpu_seconds, process, resident_mb
from lab import eventually
from world import NODE, log

ENDPOINTS_EACH = 2
KINDS = {"http": [{"name": "http", "port": 80}], "tcp": [{"name": "tcp-lines", "port": 9090}]}
SETTLED_SECONDS = 5
POD = {
    "metadata": {"name": "measured"},
    "spec": {"nodeSelector": {"kubernetes.io/hostname": NODE}, "terminationGracePeriodSeconds": 1,
             "containers": [{"name": "it", "image": "busybox", "command": ["sleep", "365d"]}]}}


class Envoy:
    """Of a pod with a sidecar that runs."""

    def __init__(self, world):
        world.namespace("measured", **{"istio-injection": "enabled"})
        world.api.create("/api/v1/namespaces/measured/pods", POD)
        self.pod = eventually("the pod with a sidecar", lambda: ready(world.api.get("/api/v1/namespaces/measured/pods/measured")), 60)
        self.pid, self.agent = envoy_of("measured.measured"), process("martlet", "proxy", "sidecar")

    def stats(self):
        text = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "curl", "-sS", "--max-time", "10",
             "http://127.0.0.1:15000/stats?filter=%5E(cluster_manager|listener_manager|control_plane)%5C."],
            capture_output=True, text=True, check=True).stdout
        return {name: int(value) for name, value in re.findall(r"^(\S+): (\d+)$", text, re.M)}

    @property
    def knows(self):
        """Clusters and listeners in use, or nothing while some are not yet."""
        stats = self.stats()
        if stats["cluster_manager.warming_clusters"] or stats["listener_manager.total_listeners_warming"]:
            return None
        return stats["cluster_manager.active_clusters"], stats["listener_manager.total_listeners_active"]

    def figures(self):
        return {
            "rss_mb": resident_mb(self.pid), "agent_rss_mb": resident_mb(self.agent), "cpu_s": cpu_seconds(self.pid),
            "agent_cpu_s": cpu_seconds(self.agent)}


def ready(pod):
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
    return pod if conditions.get("Ready") == "True" else None


def envoy_of(node):
    """The Envoy whose agent says that it is this `<pod>.<namespace>`."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.path.basename(os.readlink(entry / "exe")).startswith("envoy") and f"~{node}~".encode() in (
                        entry / "environ").read_bytes():
                    return int(entry.name)
            except OSError:
                pass
    raise SystemExit(f"no Envoy runs for {node}")


def whole(world, client):
    """What a stream that begins is sent: bytes and resources by type, seconds."""
    begin = time.monotonic()
    streams = world.streams([client])
    took = time.monotonic() - begin
    counts = streams.first["counts"]
    streams.end()
    return {"seconds": took, **counts}


def measure(world, client, total, steps=4):
    """A row for each step of 0 … `total` services, half of the kind of most (requests at a port of many), half streams."""
    envoy, plane, rows = Envoy(world), process("martlet", "control"), []
    world.namespace("many")
    made, listening = 0, client
    growth = world.streams([client])
    for step in range(steps + 1):
        goal = total * step // steps
        before = envoy.knows or eventually("Envoy to be at rest", lambda: envoy.knows)
        growth.notes()
        cpu, used, received = cpu_seconds(plane), envoy.figures(), growth.notes()["counts"]
        begin = time.monotonic()
        for index in range(made, goal):
            kind = "http" if index % 2 == 0 else "tcp"
            name = f"{kind}-{index}"
            addresses = [f"10.251.{index // 100}.{2 * (index % 100) + each + 1}" for each in range(ENDPOINTS_EACH)]
            world.service("many", name, KINDS[kind])
            world.slice("many", name, KINDS[kind], addresses)
        written = time.monotonic()
        new, streams = goal - made, sum(1 for index in range(made, goal) if index % 2)
        wanted = (before[0] + new, before[1] + streams + (1 if made == 0 and new else 0))
        # The first stream makes no listener of many; the shared one of port 80 may be there before.
        eventually(f"{goal} services in Envoy", lambda: (now := envoy.knows) and now[0] >= wanted[0] and now[1] >= wanted[1] - 1, 120)
        applied = time.monotonic()
        time.sleep(SETTLED_SECONDS)
        after, now = envoy.figures(), growth.notes()["counts"]
        rows.append({
            "services": goal, "writing_s": written - begin, "applied_s": applied - written, **after,
            "envoy_cpu_s": after["cpu_s"] - used["cpu_s"], "plane_cpu_s": cpu_seconds(plane) - cpu,
            "plane_rss_mb": resident_mb(plane),
            "grown_bytes": sum(now[type]["bytes"] - received[type]["bytes"] for type in now), "whole": whole(world, listening)})
        made = goal
        log(f"{goal} services: Envoy {after['rss_mb']:.0f} MB, applied {applied - written:.2f} s after the last write")
    growth.end()
    return rows


def start(world, count=5):
    """From creation to ready of pods with a sidecar while all of the services are there."""
    base, found = "/api/v1/namespaces/measured/pods", []
    for index in range(count):
        name = f"late-{index}"
        begin = time.monotonic()
        world.api.create(base, POD | {"metadata": {"name": name}})
        eventually("another pod with a sidecar", lambda: ready(world.api.get(f"{base}/{name}")), 60)
        found.append(time.monotonic() - begin)
        world.api.delete(f"{base}/{name}")
    return {"median_s": statistics.median(found), "max_s": max(found)}
