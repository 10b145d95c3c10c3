"""Under load, with no failed request: routes and policies are edited, the waypoint is scaled up and down, and its pods are deleted."""

import json
import time

from lab import eventually
from shop import load_routes, policy
from test_2_policies import to, waypoint  # noqa: F401

EDITS = 12
HTTP = ["80", "7070"]


def scale(shop, replicas):
    shop.kubectl("scale", "deploy/waypoint", "-n", "shop", f"--replicas={replicas}")
    eventually(f"{replicas} replicas", lambda: [
        all(c["ready"] for c in pod["status"].get("containerStatuses", [{"ready": False}])) for pod in shop.pods_of()
    ] == [True] * replicas, 60)


def test_nothing_is_lost(shop):
    # Without ports they would refuse all of what has no paths.
    forbidden = policy("forbidden", "echo", {"action": "DENY", "rules": to(paths=["/forbidden/*"], ports=HTTP)})
    flip = policy("flip", "echo", {"action": "DENY", "rules": to(paths=["/flip/*"], ports=HTTP)})
    shop.apply(forbidden, *load_routes())
    shop.await_codes(
        "routes and policy", (403, {"url": "http://echo.shop/forbidden/x"}), (200, {"url": "http://echo.shop/v1/x"}))
    load = shop.load("echo.shop", rate=60)
    events = []

    def done(what, begun):
        events.append(f"{what} {time.monotonic() - begun:.1f} s, {len(load.troubles)} troubles")

    begun = time.monotonic()
    for edit in range(EDITS):
        shop.apply(*load_routes(edit + 1, (edit % 4, 4 - edit % 4)))
        shop.apply(flip) if edit % 2 else shop.remove(flip)
    done(f"{EDITS} edits of routes and policies", begun)
    for replicas in (3, 1, 2):
        begun = time.monotonic()
        scale(shop, replicas)
        done(f"scale to {replicas}", begun)
    begun = time.monotonic()
    victim = shop.pods_of()[0]["metadata"]["name"]
    shop.kubectl("delete", "pod", victim, "-n", "shop", "--wait=false")
    eventually("its successor", lambda: [
        pod["metadata"]["name"] != victim and all(c["ready"] for c in pod["status"].get("containerStatuses", [{"ready": False}]))
        for pod in shop.pods_of()] == [True, True], 60)
    done("a pod deleted", begun)
    begun = time.monotonic()
    shop.kubectl("rollout", "restart", "deploy/waypoint", "-n", "shop")
    shop.kubectl("rollout", "status", "deploy/waypoint", "-n", "shop", "--timeout=120s", timeout=150)
    done("rollout", begun)
    seen = load.stop()
    print("\n" + "; ".join(events) + "\n" + json.dumps(seen))
    assert not load.troubles, json.dumps({"events": events, "troubles": load.troubles[:20]}, indent=1)
    assert all(seen["counts"].get(kind) for kind in ("http1", "http1-short", "http2", "http2-to-1", "grpc", "websocket", "lines")), seen
    shop.remove(forbidden, flip, *load_routes())
    scale(shop, 1)
