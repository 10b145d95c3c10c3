"""A namespace moves from sidecars to the ambient mesh and back while clients of every kind ask it all the time."""

import collections
import json
import threading
import time

import pytest

from cells import CLIENTS, Phase
from lab import eventually
from shop import IMAGE, deployment, document

NAMESPACE = "moving"


def application():
    container = {
        "image": IMAGE, "args": ["--port=80"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        # Clients need some time to learn that the pod goes.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "4"]}}}}
    made = deployment("app", NAMESPACE, container, replicas=2, grace=20)
    made["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return [made, document("Service", "app", NAMESPACE, {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80}]})]


class Asking:
    """One request after the other from each client, each on a connection of its own."""

    def __init__(self, world):
        self.world, self.ending = world, threading.Event()
        self.answered, self.failures = collections.Counter(), []
        self.threads = [threading.Thread(target=self.ask, args=(kind,)) for kind in CLIENTS]

    def ask(self, kind):
        while not self.ending.is_set():
            answer = self.world.askers[kind].ask({"url": f"http://app.{NAMESPACE}/", "timeout": 15.0})[0]
            if answer.get("code") == 200:
                self.answered[kind] += 1
            else:
                self.failures.append({"client": kind, "at": time.strftime("%H:%M:%S"), **answer})

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *trouble):
        self.ending.set()
        for thread in self.threads:
            thread.join()


def move(world, *labels):
    world.kubectl("label", "namespace", NAMESPACE, "--overwrite", *labels)
    world.kubectl("rollout", "restart", "deploy/app", "-n", NAMESPACE)
    world.kubectl("rollout", "status", "deploy/app", "-n", NAMESPACE, "--timeout=120s", timeout=150)
    # The last of the old pods is gone too.
    return eventually("the old pods to be gone", lambda: pods if len(pods := world.objects("pods", NAMESPACE)) == 2 else None)


def kinds(pods):
    """What takes the pods' connections."""
    def kind(pod):
        names = [each["name"] for part in ("containers", "initContainers") for each in pod["spec"].get(part, [])]
        if "istio-proxy" in names:
            return "sidecar"
        captured = pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"
        return "ambient" if captured else "outside"

    return {kind(pod) for pod in pods}


@pytest.fixture
def application_of(world):
    assert not world.settle(Phase(False))
    world.apply(document("Namespace", NAMESPACE, labels={"istio-injection": "enabled"}))
    world.apply(*application())
    world.kubectl("rollout", "status", "deploy/app", "-n", NAMESPACE, "--timeout=120s", timeout=150)
    yield world
    world.remove(document("Namespace", NAMESPACE))


def test_a_namespace_moves_to_the_ambient_mesh_and_back_and_no_request_fails(application_of):
    world = application_of
    assert kinds(world.objects("pods", NAMESPACE)) == {"sidecar"}
    with Asking(world) as asking:
        time.sleep(2)
        pods = move(world, "istio-injection-", "istio.io/dataplane-mode=ambient")
        assert kinds(pods) == {"ambient"}
        pods = move(world, "istio.io/dataplane-mode-", "istio-injection=enabled")
        assert kinds(pods) == {"sidecar"}
        time.sleep(2)
    assert not asking.failures, json.dumps(asking.failures[:10], indent=1)
    assert all(asking.answered[kind] > 100 for kind in CLIENTS), asking.answered
    print(f"answered: {dict(asking.answered)}")
