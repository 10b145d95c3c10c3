import KubeAPI
import MeshCollections
import MeshModel
import MeshRoutes

/// `backendRef` → where requests go.
///
/// A route of a mesh may lead to any namespace: it augments services that its clients could reach anyway, and a
/// ReferenceGrant is not asked for (GEP-1426, "Namespace boundaries"; the mesh profiles' conformance features have no
/// ReferenceGrant). Who may reach what is a matter of AuthorizationPolicies.
struct BackendResolver {
    let inputs: MeshInputs
    let services: ServiceCollections
    let fetch: Fetch
    /// Of the route.
    let namespace: String

    func destination(_ reference: JSONValue) -> Result<RouteDestination, BackendFailure> {
        let group = reference["group"]?.string ?? ""
        let kind = reference["kind"]?.string ?? "Service"
        let name = reference["name"]?.string ?? ""
        let key = NamespacedName(namespace: reference["namespace"]?.string ?? self.namespace, name: name)
        let port = reference["port"]?.int.flatMap { UInt16(exactly: $0) }
        switch (group == "core" ? "" : group, kind) {
        case ("", "Service"): return self.service(key, port)
        case ("networking.istio.io", "ServiceEntry"): return self.entry(key, port)
        case ("networking.istio.io", "Hostname"):
            if reference["namespace"]?.string.map({ !$0.isEmpty }) ?? false {
                return .failure(.init(.invalidDestination, "Hostname \(name) cannot have a namespace"))
            }
            return self.host(name, port)
        default:
            return .failure(
                .init(
                    .invalidKind,
                    "\(kind).\(group.isEmpty ? "core" : group) \(key): only Service, ServiceEntry and Hostname can be backends"
                ))
        }
    }

    private func service(_ key: NamespacedName, _ port: UInt16?) -> Result<RouteDestination, BackendFailure> {
        guard let view = self.fetch.get(self.inputs.services, key.description), view.isRoutable else {
            return .failure(.init(.notFound, "Service \(key) does not exist"))
        }
        let host = ServiceBuilder.hostname(view, suffix: self.inputs.settings(self.fetch).domainSuffix)
        return self.port(
            port, of: view.ports.map(\.number), "Service \(key)",
            NamespacedName(namespace: view.namespace, name: host))
    }

    private func entry(_ key: NamespacedName, _ port: UInt16?) -> Result<RouteDestination, BackendFailure> {
        guard let entry = self.fetch.get(self.services.entries, key.description), let host = entry.hosts.first else {
            return .failure(.init(.notFound, "ServiceEntry \(key) does not exist, or has no host of its own"))
        }
        return self.port(
            port, of: entry.view.ports.map(\.number), "ServiceEntry \(key)",
            NamespacedName(namespace: key.namespace, name: host.name))
    }

    private func host(_ name: String, _ port: UInt16?) -> Result<RouteDestination, BackendFailure> {
        let known = self.fetch.get(self.services.byHost, name).map(\.value).filter {
            $0.visibility == .everywhere || $0.namespace == self.namespace
        }
        let own = known.first { $0.namespace == self.namespace }
        guard let service = own ?? known.first(where: \.isCanonical) ?? known.first else {
            return .failure(.init(.notFound, "no service of the mesh has the host name \(name)"))
        }
        return self.port(port, of: service.ports.map(\.port), "host \(name)", service.key)
    }

    private func port(
        _ port: UInt16?, of ports: [UInt16], _ what: String, _ key: NamespacedName
    ) -> Result<RouteDestination, BackendFailure> {
        guard let port else { return .failure(.init(.invalidDestination, "a port of \(what) is missing")) }
        guard ports.contains(port) else { return .failure(.init(.notFound, "\(what) has no port \(port)")) }
        return .success(.service(key, port: port))
    }
}

struct BackendFailure: Error {
    var reason: RouteFindings.Unresolved
    var message: String
    init(_ reason: RouteFindings.Unresolved, _ message: String) {
        self.reason = reason
        self.message = message
    }
}
