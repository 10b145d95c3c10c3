import MeshDNS
import MeshModel
import MeshProto
import SwiftProtobuf

extension NameTable {
    /// Addresses that cannot be read are left out, and a name without any with them: it is for the resolver then.
    ///
    /// - Throws: when it is no such message.
    init(_ resource: Envoy_Service_Discovery_V3_Resource) throws(RejectedResource) {
        let message: Istio_Networking_Nds_V1_NameTable
        do {
            message = try Istio_Networking_Nds_V1_NameTable(serializedBytes: resource.resource.value)
        } catch {
            throw RejectedResource(name: resource.name, reason: "not a readable NameTable: \(error)")
        }
        self.init(
            message.table.compactMapValues { info in
                let addresses = info.ips.compactMap { IPAddress($0) }
                guard !addresses.isEmpty else { return nil }
                return Entry(
                    addresses, registry: Registry(rawValue: info.registry) ?? .external, shortName: info.shortname,
                    namespace: info.namespace)
            })
    }
}
