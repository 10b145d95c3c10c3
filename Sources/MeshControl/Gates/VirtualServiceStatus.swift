import MeshCollections
import MeshModel

/// The condition `WaypointAccepted` of VirtualServices: waypoints follow routes of the Gateway API only.
///
/// Only where a waypoint serves one of the hosts: whom a VirtualService concerns otherwise is not for us to say.
enum VirtualServiceStatus {
    static func statuses(
        _ graph: Graph, _ inputs: MeshInputs, _ services: ServiceCollections
    ) -> MeshCollection<ObjectStatus> {
        graph.map(inputs.virtualServices) { _, view, fetch in
            guard view.isForMesh else { return nil }
            let suffix = inputs.settings(fetch).domainSuffix
            let served = view.hosts.filter { host in
                // A short name is a Service of the object's own namespace.
                let name = host.contains(".") ? host : "\(host).\(view.key.namespace).svc.\(suffix)"
                return fetch.get(services.byHost, name).contains { $0.value.waypoint != nil }
            }
            if served.isEmpty { return nil }
            return ObjectStatus(
                generation: view.generation,
                [
                    StatusCondition(
                        "WaypointAccepted", false, reason: "UnsupportedValue",
                        message:
                            "waypoints do not follow VirtualServices: traffic to \(served.joined(separator: ", ")) goes "
                            + "as if this one did not exist. Attach an HTTPRoute, GRPCRoute, TLSRoute or TCPRoute to the "
                            + "Service instead")
                ])
        }
    }
}
