"""What sidecars are told, read by a client of another make (reader.py): every resource is Envoy's to the last field, whatever one names
is there, only what changed is sent, and who refuses something is served everything else."""

import itertools
import json

import grpc
import pytest

from lab import eventually
from shop import document

from reader import CLUSTER, ENDPOINTS, LISTENER, ROUTES, STATE_OF_THE_WORLD, TYPES, Plane

NAMESPACE = "reader"
# In the namespaces of the pairs' world: pods with a sidecar.
PODS = [("from-sidecar", "client"), ("to-sidecar", "here"), ("to-sidecar", "there")]
ATTEMPTS = 3


def cluster(service, port=80, namespace=NAMESPACE):
    return f"outbound|{port}||{service}.{namespace}.svc.cluster.local"


CATALOG, PROBED, SENTINEL = (cluster(name) for name in ("catalog", "probed", "sentinel"))


def service(name, **spec):
    return document("Service", name, NAMESPACE, {"ports": [{"name": "http", "port": 80}], **spec})


class Goods:
    """Services whose endpoints are ours to write: nothing runs behind them."""

    def __init__(self, world):
        self.world, self.numbers = world, itertools.count(1)
        self.world.apply(
            document("Namespace", NAMESPACE), service("catalog"), service("sentinel"),
            service("probed", selector={"app": "probed"}),
            # Of nobody's kubelet: its status is what we write.
            document("Pod", "probed", NAMESPACE, {
                "schedulerName": "nobody", "containers": [{"name": "probed", "image": "busybox"}]}, {"app": "probed"}))
        for name in ("catalog", "sentinel"):
            self.move(name)
        self.probe(True)

    def address(self):
        return f"10.251.0.{next(self.numbers)}"

    def move(self, name, address=None):
        """Gives the service another endpoint."""
        address = address or self.address()
        self.world.apply(document(
            "EndpointSlice", f"{name}-1", NAMESPACE, labels={"kubernetes.io/service-name": name}, group="discovery.k8s.io/v1",
            addressType="IPv4", ports=[{"name": "http", "port": 80}],
            endpoints=[{"addresses": [address], "conditions": {"ready": True}}]))
        return address

    def probe(self, is_ready):
        """What a kubelet says of the pod."""
        ready = {"type": "Ready", "status": str(is_ready)}
        self.world.kubectl(
            "patch", "pod", "probed", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(
                {"status": {"phase": "Running", "podIP": "10.251.1.1", "podIPs": [{"ip": "10.251.1.1"}], "conditions": [ready]}}))

    def end(self):
        self.world.remove(document("Namespace", NAMESPACE))


@pytest.fixture(scope="module")
def goods(world):
    goods = Goods(world)
    yield goods
    goods.end()


@pytest.fixture(scope="module")
def plane(world):
    plane = Plane(world)
    yield plane
    plane.end()


@pytest.fixture(scope="module")
def pods(world):
    def pod(namespace, app):
        found = world.objects("pods", namespace, f"app={app}")
        return next(each for each in found if "deletionTimestamp" not in each["metadata"])

    return [pod(*each) for each in PODS]


@pytest.fixture(scope="module")
def readers(goods, plane, pods):
    readers = [plane.reader(pod).wait_for_all() for pod in pods]
    yield readers
    for reader in readers:
        reader.end()


def test_every_resource_is_envoys_and_names_only_what_is_there(readers):
    for reader in readers:
        assert not reader.dangling()
        for kind in ("outside", "sidecar", "ambient", "service", "workload"):
            for place, port in itertools.product(("here", "there"), (80, 7070, 8080, 9090, 9091)):
                name = cluster(place, port, f"to-{kind}")
                assert reader.resources[ENDPOINTS][name].endpoints, f"{name} has no endpoints"
        print({type.rsplit(".", 1)[-1]: len(reader.resources[type]) for type in TYPES})


def test_whoever_connects_again_is_told_nothing_that_it_knows(plane, pods, readers):
    # Of what nobody changes meanwhile.
    again = plane.reader(pods[0], known=readers[0]).wait_for_all()
    again.end()
    assert again.since(0) == set()
    assert all(again.versions[type] == readers[0].versions[type] for type in TYPES)


def brings(goods, readers, change, wanted):
    """Fails unless a change brings to each reader what is wanted (pairs of type and name) and nothing else.

    `change` makes one and answers when it has arrived, as a question to the first reader. What is written after it has arrived
    marks the end. More than one attempt, as other parts of the lab may change something just then."""
    found = []
    for _ in range(ATTEMPTS):
        marks = [reader.mark() for reader in readers]
        arrived, expected = change(), wanted() if callable(wanted) else wanted
        readers[0].wait("the change", arrived)
        address = goods.move("sentinel")
        for reader in readers:
            reader.wait("the change behind it", lambda: reader.addresses(SENTINEL) == [address])
        told = [reader.since(mark) - {("ClusterLoadAssignment", SENTINEL)} for reader, mark in zip(readers, marks)]
        if told == expected:
            return
        found.append(told)
    raise AssertionError(f"wanted {expected}, {ATTEMPTS} attempts brought {found}")


def test_an_endpoint_of_a_slice_is_one_assignment(goods, readers):
    def change():
        address = goods.move("catalog")
        return lambda: readers[0].addresses(CATALOG) == [address]

    brings(goods, readers, change, [{("ClusterLoadAssignment", CATALOG)}] * len(readers))


def test_a_pods_readiness_is_one_assignment(goods, readers):
    def change():
        ready = not readers[0].addresses(PROBED)
        goods.probe(ready)
        return lambda: bool(readers[0].addresses(PROBED)) == ready

    brings(goods, readers, change, [{("ClusterLoadAssignment", PROBED)}] * len(readers))


def test_a_services_change_touches_only_its_own_resources(goods, readers):
    """A port more: a cluster, its endpoints, and a listener at the service's address."""
    ports = itertools.count(9000)
    port = 0

    def change():
        nonlocal port
        port = next(ports)
        goods.world.kubectl(
            "patch", "service", "catalog", "-n", NAMESPACE, "--type=json", "-p", json.dumps(
                [{"op": "add", "path": "/spec/ports/-", "value": {"name": f"tcp-{port}", "port": port}}]))
        return lambda: cluster("catalog", port) in readers[0].resources[ENDPOINTS] and listener() in readers[0].resources[LISTENER]

    virtual = json.loads(goods.world.kubectl("get", "service", "catalog", "-n", NAMESPACE, "-o", "json"))["spec"]["clusterIP"]

    def listener():
        return f"{virtual}_{port}"

    brings(goods, readers, change, lambda: [
        {("Cluster", cluster("catalog", port)), ("ClusterLoadAssignment", cluster("catalog", port)), ("Listener", listener())}
    ] * len(readers))


def test_a_service_more_at_a_port_of_many_is_a_cluster_and_the_ports_routes(goods, readers):
    numbers = itertools.count(1)
    name = ""

    def change():
        nonlocal name
        name = f"more-{next(numbers)}"
        goods.world.apply(service(name))
        host = f"{name}.{NAMESPACE}.svc.cluster.local"
        return lambda: cluster(name) in readers[0].resources[ENDPOINTS] and any(
            host in each.domains for each in readers[0].resources[ROUTES]["80"].virtual_hosts)

    brings(goods, readers, change, lambda: [
        {("Cluster", cluster(name)), ("ClusterLoadAssignment", cluster(name)), ("RouteConfiguration", "80")}] * len(readers))


def test_a_policy_is_told_to_the_pods_that_it_selects(goods, readers):
    """What is asked of requests comes with the inbound routes, and only what is asked of streams with the listeners."""
    numbers = itertools.count(1)
    client, here, there = readers

    def policy(principal, path):
        return document("AuthorizationPolicy", "reader", "to-sidecar", {
            "selector": {"matchLabels": {"app": "here"}}, "action": "DENY", "rules": [{
                "from": [{"source": {"principals": [f"cluster.local/ns/nowhere/sa/{principal}"]}}],
                "to": [{"operation": {"paths": [f"/{path}"]}}]}]}, group="security.istio.io/v1")

    principal = "nobody"

    def changed(type, name, path="x"):
        before = here.versions[type][name]
        goods.world.apply(policy(principal, path))
        return lambda: here.versions[type][name] != before

    def another_principal():
        nonlocal principal
        principal = f"nobody-{next(numbers)}"
        return changed(LISTENER, "virtualInbound")

    def inbound(routes):
        return {("RouteConfiguration", name) for name in routes if name.removeprefix("hbone/").lower().startswith("inbound")}

    listeners = {("Listener", "virtualInbound"), ("Listener", "main_internal")}
    routes = inbound(here.resources[ROUTES])
    try:
        brings(goods, [here, there, client], another_principal, [routes | listeners, set(), set()])
        by_path = lambda: changed(ROUTES, "inbound|80||", path=next(numbers))  # noqa: E731
        brings(goods, [here, there, client], by_path, [routes, set(), set()])
    finally:
        goods.world.remove(policy(principal, "x"))


def test_who_refuses_a_resource_is_served_all_others_and_its_next_version(world, goods, plane, pods):
    bad, reason = goods.address(), "these endpoints are not to my taste"

    def refuse(type, resource):
        return reason if type == ENDPOINTS and resource.cluster_name == CATALOG and bad in str(resource) else None

    reader = plane.reader(pods[0], refuse=refuse).wait_for_all()
    try:
        before = reader.addresses(CATALOG)
        goods.move("catalog", bad)
        reader.wait("something to refuse", lambda: reader.refusals)
        assert reader.addresses(CATALOG) == before
        eventually("the refusal in the log", lambda: reason in world.kubectl(
            "logs", "-n", "istio-system", "deploy/istiod", "--tail=500"))
        for _ in range(2):
            address = goods.move("sentinel")
            reader.wait("another resource", lambda: reader.addresses(SENTINEL) == [address])
        assert len(reader.refusals) == 1, "what was refused is not sent again"
        address = goods.move("catalog")
        reader.wait("its next version", lambda: reader.addresses(CATALOG) == [address])
        assert len(reader.refusals) == 1
    finally:
        reader.end()


@pytest.mark.parametrize("audience, answer", [("istio-ca", "PERMISSION_DENIED"), ("somebody-else", "UNAUTHENTICATED")])
def test_no_other_token_is_a_pods(plane, pods, audience, answer):
    """Another pod's of the mesh, and one of its own that is for somebody else."""
    token = plane.token(pods[0 if audience == "istio-ca" else 1], audience)
    reader = plane.reader(pods[1], token)
    with pytest.raises(AssertionError, match=answer):
        reader.wait("an answer", lambda: reader.changes)
    reader.end()


def test_the_whole_state_at_once_is_not_served(plane, pods):
    """Envoy's older way of asking, which costs everybody everything for each change."""
    call = plane.channel.stream_stream(STATE_OF_THE_WORLD)(iter([b""]), metadata=[("authorization", f"Bearer {plane.token(pods[0])}")])
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
