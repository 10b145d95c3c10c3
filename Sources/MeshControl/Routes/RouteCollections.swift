import MeshCollections
import MeshModel
import MeshRoutes

/// Routes, what they are attached to, and what their statuses say.
///
///     route ─▶ resolved rules ────────────────────────────┐
///       └────▶ attachments, by service ─▶ port owners ────┴─▶ the rules of a service
///
/// A changed rule goes the upper way only: it concerns its own route and the services that this is attached to.
struct RouteCollections {
    /// By `<kind>|<namespace>/<name>`.
    let resolved: MeshCollection<ResolvedRoute>
    /// By service, `<namespace>/<hostname>`; services without routes have none.
    let owners: MeshCollection<PortOwners>
    /// By route, one collection for each kind.
    let statuses: [RouteKind: MeshCollection<PlacedStatus>]
    private let byService: Index<RouteAttachment, String>

    init(_ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections, _ services: ServiceCollections) {
        let parents = RouteParents(inputs: inputs, gateways: gateways, services: services)

        let resolved: [MeshCollection<ResolvedRoute>] = RouteKind.allCases.compactMap { kind in
            guard let routes = inputs.routes[kind] else { return nil }
            return graph.flatMap(routes) { _, view, fetch in
                let resolver = BackendResolver(
                    inputs: inputs, services: services, fetch: fetch, namespace: view.key.namespace)
                let route = RouteReader.resolved(view) { resolver.destination($0) }
                return [(RouteAttachment.routeID(kind, view.key), route)]
            }
        }
        let all = graph.join(resolved)
        let attachments: [MeshCollection<RouteAttachment>] = RouteKind.allCases.compactMap { kind in
            guard let routes = inputs.routes[kind] else { return nil }
            return graph.flatMap(routes) { key, view, fetch in
                Self.attachments(view, parents, fetch).enumerated().map { number, attachment in
                    ("\(kind.name)|\(key)|\(number)", attachment)
                }
            }
        }
        let attached = graph.join(attachments)
        let byService = attached.index { _, attachment in [attachment.service] }
        let owners: MeshCollection<PortOwners> = graph.map(services.all) { key, service, fetch in
            let here = fetch.get(byService, key).map(\.value)
            return here.isEmpty ? nil : PortOwners(here, ports: service.ports)
        }
        self.resolved = all
        self.byService = byService
        self.owners = owners
        var statuses: [RouteKind: MeshCollection<PlacedStatus>] = [:]
        for kind in RouteKind.allCases {
            guard let routes = inputs.routes[kind] else { continue }
            statuses[kind] = graph.map(routes) { _, view, fetch in
                let findings = fetch.get(all, RouteAttachment.routeID(kind, view.key))?.findings ?? RouteFindings()
                return PlacedStatus(
                    generation: view.generation,
                    view.parents.compactMap { parent in
                        let outcome = parents.outcome(parent, of: view, fetch)
                        var grants: [PortOwners.Grant] = []
                        if case .attached(let attachments, _) = outcome {
                            grants = attachments.compactMap { fetch.get(owners, $0.service)?.grant($0) }
                        }
                        return RouteStatus.conditions(kind, parent, outcome, findings, grants: grants)
                            .map { PlacedStatus.Place(reference: parent.reference, conditions: $0) }
                    })
            }
        }
        self.statuses = statuses
    }

    private static func attachments(_ view: RouteView, _ parents: RouteParents, _ fetch: Fetch) -> [RouteAttachment] {
        var attachments: [RouteAttachment] = []
        for parent in view.parents {
            guard case .attached(let found, _) = parents.outcome(parent, of: view, fetch) else { continue }
            // Named twice, attached once.
            for attachment in found where !attachments.contains(attachment) { attachments.append(attachment) }
        }
        return attachments
    }

    /// The routes of one service, in the order in which equals win.
    func routes(_ service: MeshModel.Service, _ fetch: Fetch) -> (http: [HTTPRoute], streams: [StreamRoute]) {
        let key = service.key.description
        guard let owners = fetch.get(self.owners, key) else { return ([], []) }
        var http: [HTTPRoute] = []
        var streams: [StreamRoute] = []
        let attachments = fetch.get(self.byService, key).map(\.value)
        for attachment in attachments.sorted(by: RouteAttachment.comesFirst) {
            guard let route = fetch.get(self.resolved, attachment.routeID) else { continue }
            let grant = owners.grant(attachment)
            let ports: [UInt16?] = grant.isForService ? [nil] : grant.ports
            for port in ports {
                switch route.content {
                case .http(let rules):
                    http.append(
                        HTTPRoute(
                            name: route.key, kind: route.kind == .grpc ? .grpc : .http, port: port,
                            clientNamespace: attachment.clientNamespace, rules: rules))
                case .stream(let serverNames, let backends):
                    streams.append(
                        StreamRoute(
                            name: route.key, port: port, clientNamespace: attachment.clientNamespace,
                            serverNames: serverNames, isTLS: route.kind == .tls, backends: backends))
                }
            }
        }
        return (http, streams)
    }
}
