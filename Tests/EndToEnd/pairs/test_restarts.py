"""Everything of the mesh is restarted, one after the other and at random, while every client asks every server by every
protocol: no request fails."""

import json
import random
import threading
import time

from cells import CELLS, CLIENTS, REFUSED, Phase, became, wanted
from lab import ROOT

SECONDS = 40
# Longer than an old node proxy's drain, which cuts what is still there when it ends. A sidecar keeps connections to servers in
# tunnels, but none of them for so long (docs/guarantees.md).
DRAIN_SECONDS = 30
# What is rolled out: the control plane, node proxies, node agents, both waypoints.
PARTS = [
    ("istio-system", "deployment/istiod"), ("istio-system", "daemonset/ztunnel"), ("istio-system", "daemonset/istio-cni-node"),
    ("to-service", "deployment/waypoint"), ("to-workload", "deployment/waypoint")]


def test_restarts_lose_no_request(world):
    assert not world.settle(Phase(False))
    failures, counts, ending = [], dict.fromkeys(CLIENTS, 0), threading.Event()

    def ask(kind):
        mine = [cell for cell in CELLS if cell.client == kind and wanted(cell, Phase(False)) != REFUSED]
        while not ending.is_set():
            cell = random.choice(mine)
            question = cell.question(world.addresses[f"to-{cell.server}", cell.place]) | {"timeout": 20.0}
            outcome = became(cell, answer := world.askers[kind].ask(question)[0])
            counts[kind] += 1
            if outcome != "answered":
                failures.append({
                    "cell": cell, "clock": time.strftime("%H:%M:%S"), "outcome": outcome,
                    "answer": str(answer)[:300]})

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in CLIENTS]
    for thread in threads:
        thread.start()
    events, drained = [], 0.0
    try:
        until = time.monotonic() + SECONDS
        # Each of them once at least.
        parts = random.sample(PARTS, len(PARTS))
        while time.monotonic() < until or parts:
            namespace, part = parts.pop() if parts else random.choice(PARTS)
            events.append(f"{time.strftime('%H:%M:%S')} {namespace} {part}")
            world.kubectl("rollout", "restart", part, "-n", namespace)
            world.kubectl("rollout", "status", part, "-n", namespace, "--timeout=120s", timeout=150)
            if part == "daemonset/ztunnel":
                drained = time.monotonic() + DRAIN_SECONDS
        time.sleep(max(0.0, drained - time.monotonic()))
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    if failures:
        lines = world.run("kubectl", "logs", "-n", "istio-system", "-l", "app=ztunnel", "--prefix", "--tail=-1", "--since=90s")
        file = ROOT / ".build" / "pairs" / "restarts.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines.stdout)
    assert not failures, f"{len(failures)} of {counts}; {events}\n{json.dumps(failures[:15], indent=1)}"
    assert min(counts.values()) > 100, counts
    print(f"{counts}: {len(events)} restarts")
