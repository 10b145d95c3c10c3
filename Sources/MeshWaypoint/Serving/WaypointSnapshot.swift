package import MeshDirectory
package import MeshExchange
package import MeshIdentity
package import MeshModel
internal import MeshPolicy
internal import MeshRoutes
package import MeshTunnel
internal import Synchronization

/// What a waypoint knows about itself.
package struct WaypointSettings: Sendable {
    package var identity: WorkloadIdentity
    /// `<namespace>/<name>` of our Gateway.
    package var gateway: NamespacedName
    package var network = ""
    package var clusterDomain = "cluster.local"
    /// Where pods take HBONE.
    package var tunnelPort: UInt16 = 15008
    /// The uid of our own pod, for its place in the network; empty: unknown.
    package var workload = ""

    package init(identity: WorkloadIdentity, gateway: NamespacedName) {
        self.identity = identity
        self.gateway = gateway
    }

    /// The Service of the Gateway: what services and workloads name when we are their waypoint.
    package var service: NamespacedName {
        NamespacedName(
            namespace: self.gateway.namespace,
            name: "\(self.gateway.name).\(self.gateway.namespace).svc.\(self.clusterDomain)")
    }
}

/// One immutable picture of a waypoint's world: answers what the tunnel asks about streams, and what the engine asks about
/// requests.
package final class WaypointSnapshot: MeshView, ExchangeView {
    package let picture: WaypointPicture
    package let settings: WaypointSettings
    /// For telemetry.
    package let mesh: MeshPicture
    let backends: BackendFinder
    private let compiler: RuleCompiler
    /// Made when they are first asked for.
    private let ports = Mutex<[ServedTarget.What: RoutedPort]>([:])
    /// Clients choose the ports of workloads.
    static let portsMax = 20_000

    /// - Parameters:
    ///   - backends, compiler: shared by all snapshots.
    package init(
        _ picture: WaypointPicture, _ settings: WaypointSettings, backends: BackendTable, compiler: RuleCompiler
    ) {
        self.picture = picture
        self.settings = settings
        self.backends = BackendFinder(picture: picture, settings: settings, table: backends)
        self.compiler = compiler
        self.mesh = MeshPicture(state: picture.state, network: settings.network)
    }

    package var state: MeshState { self.picture.state }

    // MARK: The tunnel

    package func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.settings.identity }

    package func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        .refuse(RefusalReason(.connect, "a waypoint captures nothing", kind: .other), labels: nil)
    }

    /// Every policy is judged request by request, or stream by stream, once it is known what the stream carries.
    package func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        guard case .hbone(let text, _) = question.via else {
            return .refuse(
                status: 400, RefusalReason(.connect, "a waypoint takes HBONE only", kind: .badRequest), labels: nil)
        }
        guard let authority = Authority(text) else {
            return .refuse(
                status: 400,
                RefusalReason(
                    .connect, "the CONNECT authority \"\(text)\" is neither ip:port nor host:port", kind: .badRequest),
                labels: nil)
        }
        // Whoever sends traffic here knows that it is ours; when we do not yet, the news are on their way.
        guard let target = self.target(authority, from: question.identity?.namespace) else {
            return .wait(
                status: 404,
                RefusalReason(
                    .connect,
                    "the waypoint \(self.settings.gateway) does not serve \(text); is it the waypoint of a service or "
                        + "workload there, and the control plane connected?", kind: .unknownService))
        }
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address,
            destination: target.local ?? question.local)
        switch PolicySet.empty.decide(facts, namespace: self.settings.gateway.namespace, named: []) {
        case .permit(let permit): return .serve(permit, target, labels: Self.labels)
        case .deny(let denial):
            return .refuse(status: 401, RefusalReason(.deny, "\(denial)", kind: .policy), labels: nil)
        }
    }

    private final class NoLabels: ConnectionLabels {}
    /// Streams are reported by the engine, with what is known at their ends.
    static let labels: any ConnectionLabels = NoLabels()

    private func target(_ authority: Authority, from namespace: String?) -> ServedTarget? {
        switch authority {
        case .host(let host, let port):
            guard let service = self.state.service(hostname: host, from: namespace) else { return nil }
            return self.target(service, port, local: nil)
        case .address(let asked):
            let address = NetworkAddress(network: self.settings.network, address: asked.address)
            if let workload = self.state.workload(at: address) {
                let what = ServedTarget.What.workload(uid: workload.workload.uid, port: asked.port)
                return self.serves(workload) ? ServedTarget(what, local: asked) : nil
            }
            guard let service = self.state.service(at: address, from: namespace) else { return nil }
            return self.target(service, asked.port, local: asked)
        }
    }

    private func target(_ service: ServiceEntry, _ port: UInt16, local: IPEndpoint?) -> ServedTarget? {
        guard self.serves(service), service.service.ports.contains(where: { $0.port == port }) else { return nil }
        return ServedTarget(.service(service.key, port: port), local: local)
    }

    private func serves(_ service: ServiceEntry) -> Bool {
        switch self.picture.waypoint?.trafficType {
        case .service?, .all?: self.picture.rules(of: service.key) != nil
        case .workload?, .some(.none), nil: false
        }
    }

    private func serves(_ workload: WorkloadEntry) -> Bool {
        switch self.picture.waypoint?.trafficType {
        case .workload?, .all?: workload.workload.waypoint.map(self.isSelf) ?? false
        case .service?, .some(.none), nil: false
        }
    }

    private func isSelf(_ gateway: GatewayAddress) -> Bool {
        switch gateway.destination {
        case .hostname(let key): key == self.settings.service
        case .address(let address): self.state.service(at: address, from: nil)?.key == self.settings.service
        }
    }

    // MARK: The engine

    package func served(_ target: ServedTarget) -> (any ServedPort)? {
        if let known = self.ports.withLock({ $0[target.what] }) { return known }
        guard let new = self.port(target.what) else { return nil }
        self.ports.withLock { ports in
            if ports.count >= Self.portsMax { ports.removeAll() }
            ports[target.what] = new
        }
        return new
    }

    private func port(_ what: ServedTarget.What) -> RoutedPort? {
        guard let own = self.picture.own else { return nil }
        let backends = self.backends
        switch what {
        case .service(let key, let port):
            guard let service = self.state.service(key), self.serves(service), let rules = self.picture.rules(of: key),
                let backend = backends.find(key, port)
            else { return nil }
            return RoutedPort(
                rules.compiled(port: port, own, self.compiler), port: port, own: backend, backend: backends.find)
        case .workload(let uid, let port):
            guard let workload = self.state.workload(uid: uid), self.serves(workload) else { return nil }
            return RoutedPort(
                own.compiled(port: port, self.compiler), port: port, own: backends.workload(workload, port: port),
                backend: backends.find)
        }
    }
}
