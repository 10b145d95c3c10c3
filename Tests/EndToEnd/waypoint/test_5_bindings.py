"""Which waypoint traffic takes: for services, workloads, all or none; of another namespace; two with weights."""

import collections

import pytest

from lab import eventually
from shop import document, echo, policy, service
from test_2_policies import ECHO, to, waypoint  # noqa: F401


def gateway(shop, name, traffic, namespace="shop"):
    shop.ok(
        "martlet", "waypoint", "apply", "-n", namespace, "--name", name, "--for", traffic, "--wait", timeout=180)


def label(shop, kind, name, *labels, namespace="shop"):
    shop.kubectl("label", "--overwrite", kind, name, "-n", namespace, *labels)


@pytest.fixture(scope="module")
def marks(shop):
    """Whoever goes through the waypoint `second` is recognised: it refuses PATCH."""
    gateway(shop, "second", "workload")
    mark = policy("mark", "second", {"action": "DENY", "rules": to(methods=["PATCH"], ports=["80", "8080"])}, kind="Gateway")
    shop.apply(mark)
    yield {"method": "PATCH"}
    shop.remove(mark)
    shop.ok("martlet", "waypoint", "delete", "second", "-n", "shop")


def test_a_workload_waypoint_takes_what_is_addressed_to_the_pod_and_nothing_else(shop, marks):
    pods = shop.objects("pods", "shop", "app=echo")
    pod = next(pod for pod in pods if pod["metadata"]["labels"]["version"] == "v1")
    other = next(pod for pod in pods if pod["metadata"]["labels"]["version"] == "v2")
    address, beside = f"http://{pod['status']['podIP']}:8080/", f"http://{other['status']['podIP']}:8080/"
    shop.await_codes("the pod without a waypoint", (200, {"url": address, **marks}))
    label(shop, "pod", pod["metadata"]["name"], "istio.io/use-waypoint=second")
    shop.await_codes(
        "the pod's waypoint", (403, {"url": address, **marks}), (200, {"url": address}), (200, {"url": beside, **marks}),
        # By the service it is the service's waypoint that decides.
        (200, {"url": "http://echo-v1.shop", **marks}))
    answer = shop.ask(address)
    assert answer["echo"]["pod"] == pod["metadata"]["name"], answer
    assert shop.code(f"tcp://{pod['status']['podIP']}:9090") == 200, "lines pass it as well"
    # For services only: the pod's label is in vain, and said to be.
    gateway(shop, "second", "service")
    shop.await_codes("no waypoint for the pod", (200, {"url": address, **marks}))
    # For both.
    label(shop, "service", "echo-v1", "istio.io/use-waypoint=second")
    shop.await_codes("the service's waypoint", (403, {"url": "http://echo-v1.shop", **marks}), (200, {"url": address, **marks}))
    gateway(shop, "second", "all")
    shop.await_codes("both", (403, {"url": "http://echo-v1.shop", **marks}), (403, {"url": address, **marks}))
    # For none.
    gateway(shop, "second", "none")
    shop.await_codes("neither", (200, {"url": "http://echo-v1.shop", **marks}), (200, {"url": address, **marks}))
    said = eventually("its condition", lambda: shop.condition("service", "echo-v1", "shop", "istio.io/WaypointBound"))
    assert said["status"] == "False" and said["reason"] == "UnsupportedTrafficType", said
    label(shop, "service", "echo-v1", "istio.io/use-waypoint-")
    label(shop, "pod", pod["metadata"]["name"], "istio.io/use-waypoint-")
    gateway(shop, "second", "service")


def test_a_service_may_say_that_it_wants_none(shop, marks):
    def passed_by_a_waypoint():
        answer = shop.ask("http://echo-v2.shop")
        return "x-envoy-upstream-service-time" in answer["headers"] if answer.get("code") == 200 else None

    label(shop, "service", "echo-v2", "istio.io/use-waypoint=none")
    eventually("no waypoint", lambda: passed_by_a_waypoint() is False)
    label(shop, "service", "echo-v2", "istio.io/use-waypoint-")
    eventually("the namespace's waypoint", passed_by_a_waypoint)


def test_a_waypoint_of_another_namespace_has_to_admit_it(shop, marks):
    shop.apply(document("Namespace", "annex", labels={"istio.io/dataplane-mode": "ambient"}))
    away = service("echo", {"app": "echo"}, "annex", {
        "istio.io/use-waypoint": "second", "istio.io/use-waypoint-namespace": "shop"})
    shop.apply(away, echo("v1", "annex"))
    shop.kubectl("rollout", "status", "deploy/echo-v1", "-n", "annex", "--timeout=60s")
    url = "http://echo.annex/"
    said = eventually("the refusal", lambda: shop.condition("service", "echo", "annex", "istio.io/WaypointBound"))
    assert said["status"] == "False" and said["reason"] == "AttachmentDenied", said
    shop.await_codes("nobody to get past it", (None, {"url": url, "timeout": 5}))
    shop.kubectl(
        "patch", "gateway", "second", "-n", "shop", "--type=json", "-p",
        '[{"op": "add", "path": "/spec/listeners/0/allowedRoutes", "value": {"namespaces": {"from": "All"}}}]')
    shop.await_codes("the other namespace's waypoint", (403, {"url": url, **marks}), (200, {"url": url}))
    said = eventually("bound", lambda: (
        found := shop.condition("service", "echo", "annex", "istio.io/WaypointBound")) and found["status"] == "True" and found)
    assert "shop/second" in said["message"], said
    # A policy of the service's own namespace holds there.
    own = policy("no-puts", "echo", {"action": "DENY", "rules": to(methods=["PUT"])}, "annex")
    shop.apply(own)
    shop.await_codes("the service's policy", (403, {"url": url, "method": "PUT"}), (200, {"url": url}))
    shop.kubectl("delete", "namespace", "annex", "--wait=false")


def test_a_second_waypoint_takes_its_share(shop, marks):
    def share(weight):
        shop.kubectl("annotate", "--overwrite", "service", "echo", "-n", "shop", f"istio.io/use-waypoint-canary-weight={weight}")

    def taken(count=100):
        codes = collections.Counter(answer.get("code") for answer in shop.asks(ECHO, count=count, **marks))
        assert set(codes) <= {200, 403}, codes
        return codes[403]

    # The canary's labels count beside a label of the object itself.
    label(shop, "service", "echo", "istio.io/use-waypoint=waypoint", "istio.io/use-waypoint-canary=second")
    share(100)
    eventually("all to go by the second", lambda: taken(20) == 20)
    share(30)
    counted = eventually("a share of 30 percent", lambda: 10 <= (found := taken()) <= 55 and found)
    print(f"\nof 100 connections {counted} went by the second waypoint, 30 were wanted")
    share(0)
    eventually("none to go by the second", lambda: taken(20) == 0 or None)
    label(shop, "service", "echo", "istio.io/use-waypoint-", "istio.io/use-waypoint-canary-")
    shop.kubectl("annotate", "service", "echo", "-n", "shop", "istio.io/use-waypoint-canary-weight-")
