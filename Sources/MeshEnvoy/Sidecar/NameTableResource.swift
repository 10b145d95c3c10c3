package import MeshDNS
internal import MeshModel
internal import MeshProto

extension Istio_Networking_Nds_V1_NameTable: EnvoyMessage {
    package static let envoyName = "istio.networking.nds.v1.NameTable"
}

extension EnvoyResource {
    /// Not for Envoy but for the agent beside it. There is one for each client, so its name says nothing.
    package init(_ table: NameTable) {
        self.init(
            "names",
            Istio_Networking_Nds_V1_NameTable.with {
                $0.table = table.entries.mapValues { entry in
                    .with {
                        $0.ips = entry.addresses.map(\.description)
                        $0.registry = entry.registry.rawValue
                        $0.shortname = entry.shortName
                        $0.namespace = entry.namespace
                    }
                }
            })
    }
}
