package import KubeAPI
internal import MeshEnvoy
internal import MeshXDS

/// With what Envoy begins: who it is, and that everything else comes from us, over one socket.
package struct EnvoyBootstrap {
    private let configuration: AgentConfiguration

    package init(_ configuration: AgentConfiguration) { self.configuration = configuration }

    private static let discovery = "xds-grpc"

    package var json: JSONValue {
        [
            "node": self.node,
            "admin": [
                "address": [
                    "socket_address": ["address": "127.0.0.1", "port_value": .int(Int64(self.configuration.adminPort))]
                ]
            ],
            "bootstrap_extensions": [
                [
                    "name": "envoy.bootstrap.internal_listener",
                    "typed_config": [
                        "@type":
                            "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                        "buffer_size_kb": 64,
                    ],
                ]
            ],
            "layered_runtime": [
                "layers": [
                    [
                        "name": "agent",
                        // Patterns of long lists are larger than Envoy's standard of 100 takes.
                        "static_layer": ["re2.max_program_size.error_level": 32768],
                    ]
                ]
            ],
            "dynamic_resources": [
                "ads_config": [
                    "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                    "grpc_services": [
                        [
                            "envoy_grpc": [
                                "cluster_name": .string(Self.discovery),
                                // Envoy's own would wait for half a minute after the control plane is back.
                                "retry_policy": [
                                    "retry_back_off": ["base_interval": "0.1s", "max_interval": "2s"]
                                ],
                            ]
                        ]
                    ],
                ],
                "cds_config": Self.ads, "lds_config": Self.ads,
            ],
            "static_resources": self.resources,
        ]
    }

    private var resources: JSONValue {
        let clusters = [self.agent(Self.discovery), self.agent(EnvoyNames.secretsCluster)]
        guard self.configuration.role == .sidecar, self.configuration.adminPort > 0 else {
            return ["clusters": .array(clusters)]
        }
        return ["clusters": .array(clusters + [self.ownStats]), "listeners": [self.statsListener]]
    }

    private static let stats = "prometheus_stats"

    private var ownStats: JSONValue {
        [
            "name": .string(Self.stats), "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": [
                "cluster_name": .string(Self.stats),
                "endpoints": [
                    ["lb_endpoints": [["endpoint": Self.address("127.0.0.1", self.configuration.adminPort)]]]
                ],
            ],
        ]
    }

    private static func address(_ host: String, _ port: Int) -> JSONValue {
        ["address": ["socket_address": ["address": .string(host), "port_value": .int(Int64(port))]]]
    }

    /// Of the admin port only the metrics, for whoever may reach the pod.
    private var statsListener: JSONValue {
        let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        let router = "envoy.extensions.filters.http.router.v3.Router"
        return [
            "name": "stats", "address": Self.address("0.0.0.0", self.configuration.envoyStatsPort)["address"] ?? [:],
            "filter_chains": [
                [
                    "filters": [
                        [
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": [
                                "@type": .string("type.googleapis.com/\(manager)"), "stat_prefix": "stats",
                                "route_config": [
                                    "virtual_hosts": [
                                        [
                                            "name": "stats", "domains": ["*"],
                                            "routes": [
                                                [
                                                    "match": ["prefix": "/stats/prometheus"],
                                                    "route": ["cluster": .string(Self.stats)],
                                                ]
                                            ],
                                        ]
                                    ]
                                ],
                                "http_filters": [
                                    [
                                        "name": "envoy.filters.http.router",
                                        "typed_config": ["@type": .string("type.googleapis.com/\(router)")],
                                    ]
                                ],
                            ],
                        ]
                    ]
                ]
            ],
        ]
    }

    /// Without a limit in time: an Envoy that knows half of it takes no traffic.
    private static let ads: JSONValue = [
        "ads": [:], "initial_fetch_timeout": "0s", "resource_api_version": "V3",
    ]

    private var node: JSONValue {
        let configuration = self.configuration
        let metadata = configuration.nodeMetadata.mapValues { JSONValue($0) }
        return [
            "id": .string(configuration.nodeID),
            "cluster": .string(configuration.serviceCluster), "metadata": .object(metadata),
        ]
    }

    private func agent(_ name: String) -> JSONValue {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        return [
            "name": .string(name), "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": [
                options: [
                    "@type": .string("type.googleapis.com/\(options)"),
                    "explicit_http_config": ["http2_protocol_options": [:]],
                ]
            ],
            "load_assignment": [
                "cluster_name": .string(name),
                "endpoints": [
                    [
                        "lb_endpoints": [
                            ["endpoint": ["address": ["pipe": ["path": .string(self.configuration.socketPath)]]]]
                        ]
                    ]
                ],
            ],
        ]
    }
}

extension JSONValue {
    fileprivate init(_ value: MetadataValue) {
        switch value {
        case .null: self = .null
        case .bool(let flag): self = .bool(flag)
        case .number(let number): self = .double(number)
        case .string(let text): self = .string(text)
        case .list(let values): self = .array(values.map { JSONValue($0) })
        case .object(let members): self = .object(members.mapValues { JSONValue($0) })
        }
    }
}
