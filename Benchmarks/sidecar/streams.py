"""Many sidecars' discovery streams in one process, as raw as they come: streams.py FILE, a JSON object with

    target, name, roots     the control plane's address, the name in its certificate, the roots' file
    clients                 a list of {node, token, metadata}

Each client has a connection of its own, as each Envoy has, asks for clusters, endpoints, listeners and routes as an Envoy does, and
acknowledges. Writes {"ready": ...} when all have everything. Then it notes when a response arrives, before it looks into it, and what it
brought; a line on standard input gets all notes, and ends it with `end`.
"""

import asyncio
import json
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Tests" / "EndToEnd" / "pairs"))

import grpc  # noqa: E402
from reader import (  # noqa: E402
    CLUSTER, ENDPOINTS, EXTENSION, LISTENER, MESSAGE_BYTES_MAX, METHOD, ROUTES, TYPES, endpoints_of, names_of, parts, unpacked)
from envoy.service.discovery.v3 import discovery_pb2  # noqa: E402

Request, Response = discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse
# What resources of a version name: all clients get the same.
named = {}


def named_by(resource):
    key = resource.name, resource.version
    if key not in named:
        message = unpacked(resource.resource)
        if resource.resource.type_url == CLUSTER:
            name = endpoints_of(message)
            named[key] = {(ENDPOINTS, name)} if name else set()
        else:
            kinds = {"routes": ROUTES, "extension": EXTENSION}
            named[key] = {
                (kinds[kind], name) for _, part in parts(message) for kind, name in names_of(part) if kind in kinds}
    return named[key]


class Client:
    def __init__(self, index, settings, channel, notes):
        self.index, self.settings, self.channel, self.notes = index, settings, channel, notes
        self.names = {CLUSTER: {}, LISTENER: {}}
        self.wanted = {ENDPOINTS: set(), EXTENSION: set(), ROUTES: set()}
        self.held = {type: set() for type in TYPES}
        self.bytes, self.count = dict.fromkeys(TYPES, 0), dict.fromkeys(TYPES, 0)
        self.opened, self.ready = set(), asyncio.Event()

    async def send(self, type, subscribe=(), unsubscribe=(), **more):
        request = Request(
            type_url=type, resource_names_subscribe=sorted(subscribe), resource_names_unsubscribe=sorted(unsubscribe), **more)
        if not self.opened:
            request.node.id, request.node.cluster = self.settings["node"], "streams"
            request.node.metadata.update(self.settings["metadata"])
        self.opened.add(type)
        await self.call.write(request.SerializeToString())

    async def run(self):
        self.call = self.channel.stream_stream(METHOD)(
            metadata=(("authorization", f"Bearer {self.settings['token']}"), ("clusterid", "Kubernetes")))
        await self.send(CLUSTER)
        while True:
            data = await self.call.read()
            arrived = time.monotonic_ns()
            if data is grpc.aio.EOF:
                raise SystemExit(f"client {self.index}: the stream ended: {await self.call.code()} {await self.call.details()}")
            await self.take(data, arrived)

    async def take(self, data, arrived):
        response = Response.FromString(data)
        type = response.type_url
        self.bytes[type] += len(data)
        self.count[type] += len(response.resources)
        self.notes.append((
            self.index, arrived, type.rsplit(".", 1)[-1], [each.name for each in response.resources][:4], len(response.resources),
            len(data)))
        await self.send(type, response_nonce=response.nonce)
        self.held[type] |= {each.name for each in response.resources}
        self.held[type] -= set(response.removed_resources)
        if type in self.names:
            self.names[type].update((each.name, named_by(each)) for each in response.resources)
            for name in response.removed_resources:
                self.names[type].pop(name, None)
            found = set().union(*self.names[type].values())
            for following in (ENDPOINTS,) if type == CLUSTER else (EXTENSION, ROUTES):
                before, names = self.wanted[following], {name for kind, name in found if kind == following}
                self.wanted[following] = names
                if names != before or following not in self.opened:
                    await self.send(following, names - before, before - names)
            if type == CLUSTER and LISTENER not in self.opened:
                await self.send(LISTENER)
        if self.opened >= set(TYPES) and all(names <= self.held[each] for each, names in self.wanted.items()):
            self.ready.set()


async def main():
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
    credentials = grpc.ssl_channel_credentials(pathlib.Path(settings["roots"]).read_bytes())
    options = [
        ("grpc.ssl_target_name_override", settings["name"]), ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        # A connection for each, where all would share one.
        ("grpc.use_local_subchannel_pool", 1)]
    notes = []
    clients = [
        Client(index, each, grpc.aio.secure_channel(settings["target"], credentials, options), notes)
        for index, each in enumerate(settings["clients"])]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    failed = asyncio.gather(*tasks)
    ready = asyncio.gather(*(client.ready.wait() for client in clients))
    done, _ = await asyncio.wait([failed, ready], return_when=asyncio.FIRST_COMPLETED)
    if failed in done:
        failed.result()

    def counts():
        return {type.rsplit(".", 1)[-1]: {"bytes": clients[0].bytes[type], "resources": clients[0].count[type]} for type in TYPES}

    print(json.dumps({"ready": len(clients), "counts": counts()}), flush=True)
    notes.clear()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while True:
        line = await lines.readline()
        if failed.done():
            failed.result()
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"notes": notes, "counts": counts(), "cpu": used.ru_utime + used.ru_stime}), flush=True)
        notes.clear()
        if not line or line.strip() == b"end":
            break
    failed.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main())
