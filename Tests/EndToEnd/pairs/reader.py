"""Reads what a sidecar is told, with nothing of ours: grpcio carries it, and Envoy's own messages (PyPI: xds-protos) say what it means.

A `Reader` behaves as an Envoy does: clusters and listeners as they come, endpoints, routes and parts of listeners by name as those ask for them; each
response is decoded down to the last Any, applied, and acknowledged or refused.
"""

import importlib
import pathlib
import threading

import envoy
import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import descriptor_pool, message_factory, struct_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
STATE_OF_THE_WORLD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION = TYPES = [
    f"type.googleapis.com/envoy.config.{name}" for name in (
        "cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment", "listener.v3.Listener", "route.v3.RouteConfiguration",
        "core.v3.TypedExtensionConfig")]
# What an Envoy has before anybody tells it anything: the agent's socket, and what the agent keeps secret.
BOOTSTRAP_CLUSTERS = {"xds-grpc", "sds-grpc"}
SECRETS = {"default", "ROOTCA"}
MESSAGE_BYTES_MAX = 256 << 20


class Undecodable(AssertionError):
    """A resource that Envoy's messages do not account for."""


def load_messages():
    """Makes every message known that the package has."""
    root = pathlib.Path(list(envoy.__path__)[0]).parent
    for package in ("envoy", "udpa", "xds"):
        for file in sorted((root / package).rglob("*_pb2.py")):
            importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts))


load_messages()


def unpacked(message, path=""):
    """The message of an Any."""
    name = message.type_url.rsplit("/", 1)[-1]
    try:
        kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    except KeyError:
        raise Undecodable(f"{path}: Envoy has no type {name}") from None
    return kind.FromString(message.value)


def parts(message, path=""):
    """Every message inside, itself and what is inside of an Any too. Fails at fields and values that Envoy does not know."""
    descriptor = message.DESCRIPTOR
    where = f"{path}/{descriptor.name}"
    unknown = [field.field_number for field in UnknownFieldSet(message)]
    if unknown:
        raise Undecodable(f"{where}: {descriptor.full_name} has no fields {unknown}")
    if descriptor.full_name == "google.protobuf.Any":
        yield from parts(unpacked(message, path), path)
        return
    yield where, message
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = [each for each in value.values() if hasattr(each, "DESCRIPTOR")]
        elif field.enum_type is not None:
            for number in value if field.is_repeated else [value]:
                if number not in field.enum_type.values_by_number:
                    raise Undecodable(f"{where}.{field.name}: {number} is no {field.enum_type.full_name}")
            continue
        elif field.message_type is None:
            continue
        elif not field.is_repeated:
            value = [value]
        for each in value:
            yield from parts(each, f"{where}.{field.name}")


def names_of(message):
    """Pairs of what kind of thing a message names, and its name."""
    def destinations(action):
        if action.cluster:
            yield "cluster", action.cluster
        for each in action.weighted_clusters.clusters:
            yield "cluster", each.name

    kind = message.DESCRIPTOR.full_name
    if kind.endswith(".http_connection_manager.v3.Rds"):
        yield "routes", message.route_config_name
    elif kind.endswith(".http_connection_manager.v3.HttpFilter"):
        if message.HasField("config_discovery"):
            yield "extension", message.name
    elif kind == "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":
        yield from destinations(message)
    elif kind == "envoy.config.route.v3.RouteAction":
        yield from destinations(message)
        for each in message.request_mirror_policies:
            yield "cluster", each.cluster
    elif kind == "envoy.config.core.v3.HttpUri":
        yield "cluster", message.cluster
    elif kind == "envoy.config.core.v3.GrpcService.EnvoyGrpc":
        yield "cluster", message.cluster_name
    elif kind == "envoy.config.core.v3.EnvoyInternalAddress":
        yield "internal listener", message.server_listener_name
    elif kind.endswith(".tls.v3.SdsSecretConfig"):
        yield "secret", message.name


def endpoints_of(cluster):
    """The name of its assignment; nil: it has none."""
    if cluster.type != cluster_pb2.Cluster.EDS or cluster.HasField("cluster_type"):
        return None
    return cluster.eds_cluster_config.service_name or cluster.name


class Change:
    """What one response brought."""

    def __init__(self, type, upserted, removed):
        self.type, self.upserted, self.removed = type, upserted, removed

    @property
    def names(self):
        """Pairs of a type's short name and a resource's."""
        short = self.type.rsplit(".", 1)[-1]
        return {(short, name) for name in [*self.upserted, *self.removed]}

    def __repr__(self):
        return f"{self.type.rsplit('.', 1)[-1]} {self.upserted} without {self.removed}"


class Reader:
    """One stream. `refuse(type, resource)` answers with a reason for what this client will not take.

    `known`: what another reader held in the end, as an Envoy does that connects again."""

    def __init__(self, channel, token, node, metadata, refuse=lambda type, resource: None, known=None):
        self.refuse, self.condition = refuse, threading.Condition()
        self.resources = {type: dict(known.resources[type]) if known else {} for type in TYPES}
        self.versions = {type: dict(known.versions[type]) if known else {} for type in TYPES}
        self.wanted = {ENDPOINTS: set(), ROUTES: set(), EXTENSION: set()}
        self.answered, self.changes, self.refusals, self.trouble = set(), [], [], None
        self.outbox, self.is_ended = [], False
        identity = discovery_pb2.DeltaDiscoveryRequest().node
        identity.id, identity.cluster, identity.user_agent_name = node, "reader", "envoy"
        identity.metadata.CopyFrom(struct_pb2.Struct())
        identity.metadata.update(metadata)
        self.identity, self.opened = identity, set()
        self.call = channel.stream_stream(
            METHOD, request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString)(
                self.requests(), metadata=[("authorization", f"Bearer {token}"), ("clusterid", "Kubernetes")])
        self.open(CLUSTER)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def requests(self):
        while True:
            with self.condition:
                self.condition.wait_for(lambda: self.outbox or self.is_ended)
                if self.is_ended:
                    return
                request = self.outbox.pop(0)
            yield request

    def ask(self, type, subscribe=(), unsubscribe=(), **more):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type, resource_names_subscribe=sorted(subscribe), resource_names_unsubscribe=sorted(unsubscribe), **more)
        with self.condition:
            if not self.opened:
                request.node.CopyFrom(self.identity)
            if type not in self.opened:
                self.opened.add(type)
                request.initial_resource_versions.update(self.versions[type])
            self.outbox.append(request)
            self.condition.notify_all()

    def open(self, type, subscribe=()):
        if type not in self.opened:
            self.ask(type, subscribe)

    def read(self):
        try:
            for response in self.call:
                self.take(response)
        except grpc.RpcError as error:
            with self.condition:
                self.trouble = None if self.is_ended else f"{error.code().name}: {error.details()}"
        except Exception as error:  # Undecodable, above all.
            with self.condition:
                self.trouble = f"{type(error).__name__}: {error}"
            self.call.cancel()
        with self.condition:
            self.condition.notify_all()

    def take(self, response):
        url, reasons, upserted = response.type_url, [], []
        decoded = {}
        for resource in response.resources:
            assert resource.resource.type_url == url, f"{resource.name} of {url} is a {resource.resource.type_url}"
            message = unpacked(resource.resource, resource.name)
            own = message.cluster_name if url == ENDPOINTS else message.name
            if own != resource.name:
                raise Undecodable(f"the resource {resource.name} calls itself {own}")
            for _ in parts(message, resource.name):
                pass
            if reason := self.refuse(url, message):
                reasons.append(f"{resource.name}: {reason}")
            else:
                decoded[resource.name] = (message, resource.version)
            upserted.append(resource.name)
        with self.condition:
            for name, (message, version) in decoded.items():
                self.resources[url][name], self.versions[url][name] = message, version
            for name in response.removed_resources:
                self.resources[url].pop(name, None)
                self.versions[url].pop(name, None)
            self.changes.append(Change(url, upserted, list(response.removed_resources)))
            self.refusals += reasons
        if reasons:
            self.ask(url, response_nonce=response.nonce, error_detail={"code": 13, "message": "; ".join(reasons)})
        else:
            self.ask(url, response_nonce=response.nonce)
        self.follow(url)
        with self.condition:
            self.answered.add(url)
            self.condition.notify_all()

    def follow(self, type):
        """Asks for what the new resources name, and not any more for what nothing names."""
        if type == CLUSTER:
            self.want(ENDPOINTS, {name for each in self.resources[CLUSTER].values() if (name := endpoints_of(each))})
            self.open(LISTENER)
        elif type == LISTENER:
            named = [pair for each in self.resources[LISTENER].values() for _, part in parts(each) for pair in names_of(part)]
            for type, wanted in ((EXTENSION, "extension"), (ROUTES, "routes")):
                self.want(type, {name for kind, name in named if kind == wanted})

    def want(self, type, names):
        before = self.wanted[type]
        self.wanted[type] = names
        if type not in self.opened:
            self.open(type, names)
        elif names != before:
            for name in before - names:
                self.resources[type].pop(name, None)
                self.versions[type].pop(name, None)
            self.ask(type, names - before, before - names)

    def wait(self, what, check, seconds=40):
        """The first true value of `check`."""
        with self.condition:
            if not self.condition.wait_for(lambda: self.trouble or check(), seconds):
                raise AssertionError(f"waited {seconds} s in vain for {what}; the last changes: {self.changes[-5:]}")
            assert not self.trouble, self.trouble
            return check()

    def wait_for_all(self):
        """Until an Envoy would call itself ready: every type answered, every name found."""
        self.wait("a whole configuration", lambda: self.answered >= set(TYPES) and all(
            names <= self.resources[type].keys() for type, names in self.wanted.items()))
        return self

    def mark(self):
        with self.condition:
            return len(self.changes)

    def since(self, mark):
        """Names of what responses brought since then."""
        with self.condition:
            return set().union(*(change.names for change in self.changes[mark:]))

    def dangling(self):
        """What is named and is not there."""
        clusters = self.resources[CLUSTER]
        internal = {name for name, each in self.resources[LISTENER].items() if each.HasField("internal_listener")}
        there = {
            "cluster": clusters.keys() | BOOTSTRAP_CLUSTERS, "routes": self.resources[ROUTES].keys(),
            "extension": self.resources[EXTENSION].keys(), "internal listener": internal, "secret": SECRETS}
        found = [
            f"{owner}{where}: no {kind} {name!r}"
            for type in TYPES for owner, each in self.resources[type].items() for where, part in parts(each)
            for kind, name in names_of(part) if name not in there[kind]]
        return found + [
            f"cluster {name}: no endpoints" for name, each in clusters.items()
            if (wanted := endpoints_of(each)) and wanted not in self.resources[ENDPOINTS]]

    def addresses(self, cluster):
        """Of the endpoints of a cluster."""
        assignment = self.resources[ENDPOINTS].get(cluster)
        return sorted(
            each.endpoint.address.socket_address.address for place in (assignment.endpoints if assignment else [])
            for each in place.lb_endpoints)

    def end(self):
        with self.condition:
            self.is_ended = True
            self.condition.notify_all()
        self.call.cancel()
        self.thread.join(10)


class Plane:
    """The control plane, through a forwarded port: as far from it as any program of another make."""

    def __init__(self, operator):
        self.operator = operator
        self.process = operator.start("kubectl", "port-forward", "-n", "istio-system", "deploy/istiod", ":15012")
        line = self.process.stdout.readline()
        if "127.0.0.1:" not in line:
            raise AssertionError(f"no port is forwarded: {line}{self.process.stderr.read()}")
        port = line.split("127.0.0.1:")[1].split()[0]
        # Whoever does not read lets it stop some day.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()
        roots = operator.kubectl(
            "get", "configmap", "istio-ca-root-cert", "-n", "istio-system", "-o", "jsonpath={.data.root-cert\\.pem}")
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{port}", grpc.ssl_channel_credentials(roots.encode()), options=[
                ("grpc.ssl_target_name_override", "istiod.istio-system.svc"),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)])

    def token(self, pod, audience="istio-ca"):
        """As the kubelet gives it to the pod's sidecar."""
        meta = pod["metadata"]
        return self.operator.kubectl(
            "create", "token", pod["spec"]["serviceAccountName"], "-n", meta["namespace"], "--audience", audience,
            "--bound-object-kind", "Pod", "--bound-object-name", meta["name"], "--bound-object-uid", meta["uid"]).strip()

    def reader(self, pod, token=None, **options):
        """As the sidecar of a pod, with its token or another one."""
        meta = pod["metadata"]
        node = f"sidecar~{pod['status']['podIP']}~{meta['name']}.{meta['namespace']}~{meta['namespace']}.svc.cluster.local"
        return Reader(self.channel, token or self.token(pod), node, {
            "NAME": meta["name"], "NAMESPACE": meta["namespace"], "CLUSTER_ID": "Kubernetes",
            "SERVICE_ACCOUNT": pod["spec"]["serviceAccountName"], "INSTANCE_IPS": pod["status"]["podIP"],
            "LABELS": meta["labels"]}, **options)

    def end(self):
        self.channel.close()
        self.process.terminate()
        self.process.wait(10)
