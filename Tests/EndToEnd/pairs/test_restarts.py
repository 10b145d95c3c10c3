"""Everything of the mesh is restarted, one after the other and at random, while every client asks every server by every
protocol: no request fails, but for what is said at CUT_AFTER."""

import json
import random
import threading
import time

from cells import CELLS, CLIENTS, Phase, became

SECONDS = 40
# A sidecar keeps connections to a server in tunnels. Those that are still there when an old node proxy's drain ends, 25 s and
# something after its rollout began, are cut (docs/guarantees.md), and a request that is just then on one of them with it.
CUT_AFTER = (20.0, 40.0)
CUT_SHARE_MAX = 0.01
# What is rolled out: the control plane, node proxies, node agents, both waypoints.
PARTS = [
    ("istio-system", "deployment/istiod"), ("istio-system", "daemonset/ztunnel"), ("istio-system", "daemonset/istio-cni-node"),
    ("to-service", "deployment/waypoint"), ("to-workload", "deployment/waypoint")]


def test_restarts_lose_no_request(world):
    assert not world.settle(Phase(False))
    failures, counts, ending = [], dict.fromkeys(CLIENTS, 0), threading.Event()

    def ask(kind):
        mine = [cell for cell in CELLS if cell.client == kind]
        while not ending.is_set():
            cell = random.choice(mine)
            question = cell.question(world.addresses[f"to-{cell.server}", cell.place]) | {"timeout": 20.0}
            outcome = became(cell, answer := world.askers[kind].ask(question)[0])
            counts[kind] += 1
            if outcome != "answered":
                failures.append({
                    "cell": cell, "at": time.monotonic(), "clock": time.strftime("%H:%M:%S"), "outcome": outcome,
                    "answer": str(answer)[:300]})

    def is_cut(failure):
        return failure["cell"].client == "sidecar" and "reset reason: connection termination" in failure["answer"] and any(
            CUT_AFTER[0] <= failure["at"] - begun <= CUT_AFTER[1] for begun in rollouts)

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in CLIENTS]
    for thread in threads:
        thread.start()
    events, rollouts = [], []
    try:
        until = time.monotonic() + SECONDS
        # Each of them once at least.
        parts = random.sample(PARTS, len(PARTS))
        while time.monotonic() < until or parts:
            namespace, part = parts.pop() if parts else random.choice(PARTS)
            events.append(f"{time.strftime('%H:%M:%S')} {namespace} {part}")
            if part == "daemonset/ztunnel":
                rollouts.append(time.monotonic())
            world.kubectl("rollout", "restart", part, "-n", namespace)
            world.kubectl("rollout", "status", part, "-n", namespace, "--timeout=120s", timeout=150)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    cut = [failure for failure in failures if is_cut(failure)]
    others = [failure for failure in failures if not is_cut(failure)]
    assert not others, f"{len(others)} of {counts}; {events}\n{json.dumps(others[:15], indent=1)}"
    assert len(cut) <= CUT_SHARE_MAX * counts["sidecar"], f"{cut} of {counts}"
    assert min(counts.values()) > 100, counts
    print(f"{counts}: {len(events)} restarts, {len(cut)} cut")
