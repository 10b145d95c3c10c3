#!/usr/bin/env python3
"""Envoy as a waypoint of the mesh in mesh.py: its bootstrap, configured as the reference configures it.

    envoy.py --listen IP [--routes N --tables DIR]     # the bootstrap, as JSON

A listener ends HBONE, an internal listener finds the service and routes, an internal listener opens HBONE again.
The tables of the many routes are files, one for each service, which Envoy reads again as soon as one is replaced: there
is no control plane in the way of a change.
"""

import argparse
import json
import os

import mesh

TYPES = {
    "hcm": "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "tcp_proxy": "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "router": "envoy.extensions.filters.http.router.v3.Router",
    "set_filter_state": "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "original_dst": "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    "http_inspector": "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    "downstream_tls": "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "upstream_tls": "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "internal_upstream": "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
    "raw_buffer": "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    "internal_listener": "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
    "ip_matcher": "xds.type.matcher.v3.IPMatcher",
    "ip_input": "envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput",
    "port_input": "envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput",
    "string": "google.protobuf.StringValue",
    "http_options": "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "previous_hosts": "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "routes": "envoy.config.route.v3.RouteConfiguration",
}
ORIGINAL_DST = "envoy.filters.listener.original_dst"
WIDE = {
    "thresholds": [
        {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000, "max_retries": 100000}
    ]
}
RETRY = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": mesh.RETRIES,
    "retriable_status_codes": mesh.RETRY_CODES,
    "host_selection_retry_max_attempts": 5,
    "retry_host_predicate": [],
}
BAGGAGE = "k8s.cluster.name=Kubernetes,k8s.namespace.name=foo,service.name=waypoint"


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/{TYPES[kind]}", **fields}


def extension(name, kind, **fields):
    return {"name": name, "typed_config": typed(kind, **fields)}


RETRY["retry_host_predicate"] = [extension("envoy.retry_host_predicates.previous_hosts", "previous_hosts")]
RAW = extension("raw_buffer", "raw_buffer")
ROUTER = extension("envoy.filters.http.router", "router")


def tls(kind):
    names = [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": "certs/waypoint.crt"},
                "private_key": {"filename": "certs/waypoint.key"},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": "certs/ca.crt"}, "match_typed_subject_alt_names": names},
    }
    if kind == "downstream_tls":
        return extension("tls", kind, require_client_certificate=True, common_tls_context=common)
    return extension("tls", kind, common_tls_context=common)


# Routes


def forward(cluster, retry=True):
    route = {"cluster": cluster, "timeout": f"{mesh.TIMEOUT_SECONDS}s"}
    return route | ({"retry_policy": RETRY} if retry else {})


def header(name, value):
    return {"name": name, "string_match": {"exact": value}}


def many_route(number, revision=0):
    set_revision = {
        "header": {"key": "x-revision", "value": str(revision)}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return {
        "name": f"route-{number}",
        "match": {"path_separated_prefix": mesh.route_path(number), "headers": [header(*mesh.HEADER)]},
        "route": forward(f"t{number % mesh.TABLES}"), "response_headers_to_add": [set_revision],
    }


def route_configuration(name, routes):
    return {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]}


def own_routes(name):
    if name == "grpc":
        match = {"prefix": f"/{mesh.GRPC_SERVICE}/", "grpc": {}, "headers": [header(*mesh.HEADER)]}
        return [{"match": match, "route": forward("grpc", retry=False)}]
    first = {"match": {"prefix": "/", "headers": [header(*mesh.HEADER)]}}
    first["route"] = forward("canary" if name == "app" else name)
    return [first, {"match": {"prefix": "/"}, "route": forward(name)}]


def table_path(directory, table):
    """A folder for each, so that a replaced file wakes one watch only."""
    return f"{directory}/t{table}/routes.json"


def write_table(directory, table, version, routes):
    """Writes a table beside the old one. `routes`: each as JSON text, so that only a changed one has to be encoded."""
    name = f"t{table}"
    host = f'{{"name":"{name}","domains":["*"],"routes":[{",".join(routes)}]}}'
    resource = f'{{"@type":"type.googleapis.com/{TYPES["routes"]}","name":"{name}","virtual_hosts":[{host}]}}'
    with open(table_path(directory, table) + ".new", "w") as file:
        file.write(f'{{"version_info":"{version}","resources":[{resource}]}}')


def put_table(directory, table):
    """Replaces a table by what was written, which is what Envoy watches for."""
    path = table_path(directory, table)
    os.rename(path + ".new", path)


# Listeners and clusters


def connection_manager(name, **fields):
    return extension("envoy.filters.network.http_connection_manager", "hcm", stat_prefix=name, **fields)


def service_chain(name, tables):
    routes = {"route_config": route_configuration(name, own_routes(name))}
    if name.startswith("t"):
        source = {"path_config_source": {"path": table_path(tables, int(name[1:]))}, "resource_api_version": "V3"}
        routes = {"rds": {"route_config_name": name, "config_source": source}}
    manager = connection_manager(
        "inbound_http", use_remote_address=False, server_name="waypoint", http_filters=[ROUTER], **routes)
    return {"name": name, "filters": [manager]}


def by_address(services):
    def chain_of_port(name):
        action = {"name": name, "typed_config": typed("string", value=name)}
        return {
            "matcher": {
                "matcher_tree": {
                    "input": extension("port", "port_input"),
                    "exact_match_map": {"map": {str(mesh.PORT): {"action": action}}},
                }
            }
        }

    ranges = [
        {"ranges": [{"address_prefix": address, "prefix_len": 32}], "on_match": chain_of_port(name)}
        for name, address, _, _ in services
    ]
    matcher = {"name": "ip", "typed_config": typed("ip_matcher", range_matchers=ranges)}
    return {"matcher_tree": {"input": extension("ip", "ip_input"), "custom_match": matcher}}


def remembered(key, text, **more):
    format_string = {"text_format_source": {"inline_string": text}}
    return {"object_key": key, "format_string": format_string, "shared_with_upstream": "ONCE", **more}


def terminate(listen):
    state = [
        remembered(f"{ORIGINAL_DST}.local_ip", "%REQ(:AUTHORITY)%"),
        remembered(f"{ORIGINAL_DST}.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        remembered("mesh.peer_principal", "%DOWNSTREAM_PEER_URI_SAN%", factory_key="envoy.string"),
    ]
    connect = {"upgrade_type": "CONNECT"}
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": "main_internal", "timeout": "0s", "upgrade_configs": [{**connect, "connect_config": {}}]},
    }
    manager = connection_manager(
        "connect_terminate", stream_idle_timeout="0s", use_remote_address=False,
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details={"subject": True, "uri": True, "dns": True}, upgrade_configs=[connect],
        http2_protocol_options={
            "allow_connect": True, "max_concurrent_streams": 100,
            "connection_keepalive": {"interval": "10s", "timeout": "20s"},
        },
        route_config=route_configuration("default", [route]),
        http_filters=[extension("connect_authority", "set_filter_state", on_request_headers=state), ROUTER])
    return {
        "name": "connect_terminate", "address": {"socket_address": {"address": listen, "port_value": 15008}},
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"name": "default", "transport_socket": tls("downstream_tls"), "filters": [manager]}],
    }


def main_internal(services, tables):
    return {
        "name": "main_internal", "internal_listener": {},
        "listener_filters": [
            extension(ORIGINAL_DST, "original_dst"),
            extension("envoy.filters.listener.http_inspector", "http_inspector"),
        ],
        "filter_chain_matcher": by_address(services),
        "filter_chains": [service_chain(name, tables) for name, _, _, _ in services],
    }


def originate():
    baggage = {"header": {"key": "baggage", "value": BAGGAGE}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    tunnel = {
        "hostname": "%DOWNSTREAM_LOCAL_ADDRESS%", "propagate_response_headers": True, "headers_to_add": [baggage],
    }
    proxy = extension(
        "envoy.filters.network.tcp_proxy", "tcp_proxy", stat_prefix="connect_originate", cluster="connect_originate",
        tunneling_config=tunnel)
    return {
        "name": "connect_originate", "internal_listener": {},
        # Restores the endpoint from the metadata that came along.
        "listener_filters": [extension(ORIGINAL_DST, "original_dst")],
        "filter_chains": [{"filters": [proxy]}],
    }


def internal_cluster(name, listener, endpoint=None, more=None):
    address = {"server_listener_name": listener} | ({"endpoint_id": endpoint} if endpoint else {})
    host = {"endpoint": {"address": {"envoy_internal_address": address}}}
    passed = {}
    if endpoint:
        host["metadata"] = {"filter_metadata": {ORIGINAL_DST: {"local": endpoint}}}
        passed["passthrough_metadata"] = [
            {"kind": {"host": {}}, "name": ORIGINAL_DST}, {"kind": {"host": {}}, "name": "istio"},
        ]
    return {
        "name": name, "type": "STATIC", "circuit_breakers": WIDE,
        "transport_socket": extension("internal_upstream", "internal_upstream", transport_socket=RAW, **passed),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]}, **(more or {}),
    }


def http2(settings=None, **fields):
    codec = {"http2_protocol_options": settings or {}}
    return {
        "typed_extension_protocol_options": {
            TYPES["http_options"]: typed("http_options", explicit_http_config=codec, **fields)
        }
    }


def service_cluster(name, target, protocol):
    more = http2() if protocol == "kubernetes.io/h2c" else None
    return internal_cluster(name, "connect_originate", f"{mesh.POD}:{target}", more)


def originate_cluster():
    return {
        "name": "connect_originate", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
        "cleanup_interval": "60s",
        "original_dst_lb_config": {
            "upstream_port_override": 15008,
            "metadata_key": {"key": ORIGINAL_DST, "path": [{"key": "waypoint"}]},
        },
        **http2({"allow_connect": True}, common_http_protocol_options={"idle_timeout": "3600s"}),
        "transport_socket": tls("upstream_tls"),
    }


def bootstrap(listen, routes, tables):
    services = mesh.services(routes)
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15060}}},
        "node": {"id": "waypoint", "cluster": "bench"},
        "bootstrap_extensions": [
            extension("envoy.bootstrap.internal_listener", "internal_listener", buffer_size_kb=64)
        ],
        "static_resources": {
            "listeners": [terminate(listen), main_internal(services, tables), originate()],
            "clusters": [
                internal_cluster("main_internal", "main_internal"),
                *(service_cluster(name, target, protocol) for name, _, target, protocol in services),
                originate_cluster(),
            ],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--routes", type=int, default=0)
    parser.add_argument("--tables", default="tables", help="folder of the tables of routes")
    options = parser.parse_args()
    for table in range(mesh.TABLES if options.routes else 0):
        os.makedirs(os.path.dirname(table_path(options.tables, table)), exist_ok=True)
        numbers = mesh.routes_of(table, options.routes)
        write_table(options.tables, table, 0, [json.dumps(many_route(number)) for number in numbers])
        put_table(options.tables, table)
    print(json.dumps(bootstrap(options.listen, options.routes, options.tables)))


if __name__ == "__main__":
    main()
