"""From a pod's creation to Ready: the same pod without a mesh, outside of one, in the ambient mesh, and with a sidecar."""

import queue
import statistics
import time

from cluster import API
from cost import ready
from lab import eventually
from world import NODE, log

# Before the mesh is installed.
ALONE = {"alone": {}}
KINDS = {"outside": {}, "ambient": {"istio.io/dataplane-mode": "ambient"}, "sidecar": {"istio-injection": "enabled"}}
POD = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "terminationGracePeriodSeconds": 0,
       "containers": [{"name": "it", "image": "busybox", "command": ["sleep", "365d"]}]}


def measure(world, count, kinds):
    """Milliseconds by kind, in turn. The first of each kind is not counted: it finds nothing in the page cache."""
    found = {kind: [] for kind in kinds}
    for kind, labels in kinds.items():
        world.namespace(f"pods-{kind}", **labels)
    arrivals = queue.Queue()
    for kind in kinds:
        API(world.api.kubeconfig).watch(
            f"/api/v1/namespaces/pods-{kind}/pods", lambda event: arrivals.put((time.monotonic(), event)))
    for index in range(count + 1):
        for kind in kinds:
            name, base = f"pod-{index}", f"/api/v1/namespaces/pods-{kind}/pods"
            begin = time.monotonic()
            world.api.create(base, {"metadata": {"name": name}, "spec": POD})
            while True:
                at, event = arrivals.get(timeout=60)
                if event["object"]["metadata"]["name"] == name and event["object"]["metadata"]["namespace"] == f"pods-{kind}" and ready(
                        event["object"]):
                    break
            if index:
                found[kind].append((at - begin) * 1000)
            world.api.delete(f"{base}/{name}")
            eventually("the pod to be gone", lambda: not world.has(f"{base}/{name}"), 60)
            time.sleep(0.2)
    log("ready after " + ", ".join(f"{kind} {statistics.median(values):.0f} ms" for kind, values in found.items()))
    return found
