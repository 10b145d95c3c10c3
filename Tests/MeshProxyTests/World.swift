import MeshDirectory
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshProxy
import MeshTelemetry
import MeshTunnel
import Testing

/// A mesh as a test describes it: addresses go in, a snapshot comes out.
struct World {
    var state: MeshState
    var settings = RoutingSettings()
    let registry = MetricsRegistry()
    let flows: FlowTable

    init(node: String? = "n1") {
        self.state = MeshState(nodeName: node)
        self.flows = FlowTable(TrafficMetrics(self.registry, budget: SeriesBudget()))
    }

    /// Begins with the client `ns1/client` at 10.1.0.1 on this node, taking part in the mesh.
    static var withClient: World {
        var world = World()
        world.add(workload("client", "10.1.0.1"))
        return world
    }

    mutating func add(_ workloads: Workload...) {
        self.state.apply(upserted: workloads.map { .workload($0) }, removed: [])
    }
    mutating func add(_ services: Service...) { self.state.apply(upserted: services.map { .service($0) }, removed: []) }
    mutating func add(_ policies: AuthorizationPolicy...) { self.state.apply(upserted: policies, removed: []) }
    mutating func remove(_ names: String...) { self.state.apply(upserted: [MeshAddress](), removed: names) }

    var snapshot: MeshSnapshot { MeshSnapshot(state: self.state, settings: self.settings, flows: self.flows) }

    /// How `ns1/client` gets to a destination.
    func route(
        _ destination: String, from source: String = "10.1.0.1:40000", pod: EnrolledPod = pod("client"),
        excluding: [String] = [], hosts: [String: Result<[IPAddress], HostUnresolved>] = [:]
    ) -> Route {
        Route(
            self.snapshot.routeOutbound(
                OutboundQuestion(
                    pod: pod, source: IPEndpoint(source)!, destination: IPEndpoint(destination)!,
                    excluding: excluding.map { IPAddress($0)! }, hosts: hosts)))
    }

    /// A CONNECT request that arrives at a pod.
    func connect(
        _ authority: String, at name: String = "server", arrival: String = "10.1.0.2",
        from source: String = "10.1.0.1:40000", as identity: String? = "spiffe://cluster.local/ns/ns1/sa/client",
        headers: [(name: String, value: String)] = []
    ) -> Admission {
        Admission(
            self.snapshot.admitInbound(
                InboundQuestion(
                    pod: pod(name), source: IPEndpoint(source)!,
                    local: IPEndpoint(address: IPAddress(arrival)!, port: 15008),
                    identity: identity.map { try! WorkloadIdentity(spiffe: $0) },
                    via: .hbone(authority: authority, headers: headers))))
    }

    func plaintext(_ destination: String, at name: String = "server", from source: String = "10.9.0.9:40000")
        -> Admission
    {
        Admission(
            self.snapshot.admitInbound(
                InboundQuestion(
                    pod: pod(name), source: IPEndpoint(source)!, local: IPEndpoint(destination)!, identity: nil,
                    via: .plaintext(originalDestination: IPEndpoint(destination)!))))
    }
}

/// An outbound answer in words.
enum Route: Equatable, CustomStringConvertible {
    case hbone(peer: String, authority: String)
    case doubleHBONE(peer: String, authority: String)
    case tcp(String)
    case resolve(String)
    case waits(String)
    case refused(String)

    init(_ answer: OutboundAnswer) {
        switch answer {
        case .tunnel(let route):
            if let inner = route.inner {
                precondition(inner.authority == route.authority)
                self = .doubleHBONE(peer: route.peer.description, authority: route.authority)
            } else {
                self = .hbone(peer: route.peer.description, authority: route.authority)
            }
        case .resolve(let host): self = .resolve(host)
        case .wait(let reason): self = .waits(reason.text)
        case .passthrough(let to, _): self = .tcp(to.description)
        case .refuse(let reason, _): self = .refused(reason.text)
        }
    }

    var description: String {
        switch self {
        case .hbone(let peer, let authority): "HBONE to \(peer) for \(authority)"
        case .doubleHBONE(let peer, let authority): "double HBONE to \(peer) for \(authority)"
        case .tcp(let to): "TCP to \(to)"
        case .resolve(let host): "needs the addresses of \(host)"
        case .waits(let text): "waits: \(text)"
        case .refused(let text): "refused: \(text)"
        }
    }

    func isRefused(_ part: String) -> Bool {
        if case .refused(let text) = self { text.contains(part) } else { false }
    }
    func waits(_ part: String) -> Bool { if case .waits(let text) = self { text.contains(part) } else { false } }
}

/// An inbound answer in words.
enum Admission: Equatable {
    case admitted(String)
    case waits(Int, String)
    case refused(Int, String)

    init(_ answer: InboundAnswer) {
        switch answer {
        case .admit(_, let target, _, _, _): self = .admitted(target.description)
        case .serve: self = .admitted("this process")
        case .wait(let status, let reason): self = .waits(status, reason.text)
        case .refuse(let status, let reason, _): self = .refused(status, reason.text)
        }
    }

    func isRefused(_ status: Int, _ part: String = "") -> Bool {
        if case .refused(status, let text) = self { part.isEmpty || text.contains(part) } else { false }
    }
    func waits(_ status: Int, _ part: String) -> Bool {
        if case .waits(status, let text) = self { text.contains(part) } else { false }
    }
}

func pod(_ name: String, _ namespace: String = "ns1") -> EnrolledPod {
    EnrolledPod(uid: "uid-\(name)", name: name, namespace: namespace, serviceAccount: name)
}

/// A pod `cluster//Pod/<namespace>/<name>` that takes HBONE on this node; its service account is its name.
func workload(
    _ name: String, _ addresses: String..., namespace: String = "ns1", change: (inout Workload) -> Void = { _ in }
) -> Workload {
    var workload = Workload(uid: "cluster//Pod/\(namespace)/\(name)")
    workload.name = name
    workload.namespace = namespace
    workload.serviceAccount = name
    workload.addresses = addresses.map { IPAddress($0)! }
    workload.tunnelProtocol = .hbone
    workload.node = "n1"
    workload.workloadName = "\(name)-deployment"
    workload.kind = .deployment
    workload.canonicalName = name
    workload.canonicalRevision = "v1"
    change(&workload)
    return workload
}

/// A service `<name>.<namespace>.svc.cluster.local` with port 80 → 8080.
func service(
    _ name: String, _ vips: String..., namespace: String = "ns1", ports: [UInt16: UInt16] = [80: 8080],
    change: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service(name: name, namespace: namespace, hostname: "\(name).\(namespace).svc.cluster.local")
    service.addresses = vips.map { NetworkAddress(network: "", address: IPAddress($0)!) }
    service.ports = ports.map { ServicePort(port: $0.key, targetPort: $0.value) }
    change(&service)
    return service
}

extension Workload {
    /// Makes it an endpoint of a service of `ns1`, with its own ports.
    mutating func serves(_ name: String, namespace: String = "ns1", _ ports: [UInt16: UInt16] = [80: 8080]) {
        self.services[serviceKey(name, namespace)] = ports.map { ServicePort(port: $0.key, targetPort: $0.value) }
    }
}

func serviceKey(_ name: String, _ namespace: String = "ns1") -> NamespacedName {
    NamespacedName(namespace: namespace, name: "\(name).\(namespace).svc.cluster.local")
}

func gateway(_ address: String, port: UInt16 = 15008, network: String = "") -> GatewayAddress {
    GatewayAddress(
        destination: .address(NetworkAddress(network: network, address: IPAddress(address)!)), hbonePort: port)
}

func gateway(service name: String, namespace: String = "ns1", port: UInt16 = 15008) -> GatewayAddress {
    GatewayAddress(destination: .hostname(serviceKey(name, namespace)), hbonePort: port)
}
