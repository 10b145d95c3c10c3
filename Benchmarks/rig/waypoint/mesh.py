#!/usr/bin/env python3
"""What is behind the waypoint in all its scenarios: services, routes, and one pod that serves them all.

    mesh.py [--routes N]     # Kubernetes objects as a JSON array, for martlet-feed

envoy.py says the same to Envoy. `--routes` adds that many HTTPRoutes, spread over TABLES services of their own.
"""

import argparse
import json
import os

POD = "10.91.2.2"
GATEWAY = "waypoint.foo.svc.cluster.local"
# name, virtual address, port of the pod, application protocol
SERVICES = [
    ("app", "10.96.0.1", 8080, "http"),
    ("canary", "10.96.0.2", 8080, "http"),
    ("h2", "10.96.0.3", 8081, "kubernetes.io/h2c"),
    ("grpc", "10.96.0.4", 8082, "kubernetes.io/h2c"),
]
PORT = 80
# Services over which the many routes are spread; each has one table of routes.
TABLES = int(os.environ.get("TABLES", "100"))
RETRY_CODES, RETRIES = [503], 2
TIMEOUT_SECONDS = 15
# Requests of all scenarios carry it; it is what the first rule of every service matches.
HEADER = ("x-variant", "canary")
GRPC_SERVICE = "bench.Echo"


def table_service(table):
    return (f"t{table}", f"10.97.{table // 250}.{table % 250 + 1}", 8080, "http")


def services(routes):
    return SERVICES + [table_service(table) for table in range(TABLES if routes else 0)]


def routes_of(table, routes):
    return range(table, routes, TABLES)


def route_path(number):
    return f"/app/{number}"


def spec(kind, name, parent, rules):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "bar"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": parent}], "rules": rules},
    }


def rule(match, backend, **more):
    backends = [{"name": backend, "port": PORT}]
    return {"matches": [match], "backendRefs": backends, "timeouts": {"request": f"{TIMEOUT_SECONDS}s"}, **more}


def retried(match, backend):
    return rule(match, backend, retry={"codes": RETRY_CODES, "attempts": RETRIES})


def header_match(name, value, path="/"):
    return {"path": {"type": "PathPrefix", "value": path}, "headers": [{"name": name, "value": value}]}


def many_route(number, revision=0):
    """One of the many: a path and a header, and an answer that says its revision."""
    change = {
        "type": "ResponseHeaderModifier",
        "responseHeaderModifier": {"set": [{"name": "x-revision", "value": str(revision)}]},
    }
    one = retried(header_match(*HEADER, route_path(number)), table_service(number % TABLES)[0])
    return spec("HTTPRoute", f"route-{number}", table_service(number % TABLES)[0], [{**one, "filters": [change]}])


def objects(routes):
    everything = {"path": {"type": "PathPrefix", "value": "/"}}
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "istio-waypoint"},
        "spec": {"controllerName": "istio.io/mesh-controller"},
    }
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "waypoint", "namespace": "foo"},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [
                {
                    "name": "mesh", "port": 15008, "protocol": "HBONE",
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
        "status": {"addresses": [{"type": "Hostname", "value": GATEWAY}]},
    }
    labels = {"istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": "foo"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bar", "labels": labels}}
    yield {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "server", "namespace": "bar", "uid": "1", "labels": {"app": "server"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        },
        "spec": {"serviceAccountName": "server", "nodeName": "node-0"},
        "status": {
            "phase": "Running", "podIPs": [{"ip": POD}], "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    for name, address, target, protocol in services(routes):
        port = {"name": "main", "port": PORT, "targetPort": target, "appProtocol": protocol}
        yield {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bar"},
            "spec": {"clusterIP": address, "ports": [port], "selector": {"app": "server"}},
        }
    yield spec("HTTPRoute", "app", "app", [retried(header_match(*HEADER), "canary"), retried(everything, "app")])
    yield spec("HTTPRoute", "h2", "h2", [retried(header_match(*HEADER), "h2"), retried(everything, "h2")])
    method = {"method": {"service": GRPC_SERVICE}, "headers": [{"name": HEADER[0], "value": HEADER[1]}]}
    grpc = {"matches": [method], "backendRefs": [{"name": "grpc", "port": PORT}]}
    yield spec("GRPCRoute", "grpc", "grpc", [grpc])
    for number in range(routes):
        yield many_route(number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=0)
    print(json.dumps(list(objects(parser.parse_args().routes))))


if __name__ == "__main__":
    main()
