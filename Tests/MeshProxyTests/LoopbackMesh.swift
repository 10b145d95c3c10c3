import MeshDirectory
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshProxy
import MeshTelemetry
import MeshTestSupport
import MeshTunnel

/// Several pods on this machine, each with a tunnel engine of its own at a loopback address of its own, on real
/// sockets with real snapshots of one mesh, certificates of one authority, and the access log of the node proxy.
final class LoopbackMesh {
    /// 127.<random>.<random>.0/24: others may run the same tests on this machine.
    let network: UInt32 = 0x7f00_0000 | UInt32.random(in: 64..<128) << 16 | UInt32.random(in: 0..<256) << 8
    let memory = Memory()
    let log: MeshLog
    let ca: TestCA
    /// Of pods that are served from now on; see `TunnelConfiguration`.
    var knowledgeTimeout = TunnelConfiguration().knowledgeTimeout
    private let telemetry: ConnectionTelemetry
    private var engines: [TunnelEngine] = []

    private let certificates: any CertificateSource
    /// Applied to the engines that are made from then on.
    var configure: (inout TunnelConfiguration) -> Void = { _ in }

    /// - Parameter certificates: nil: one authority issues all.
    init(certificates: (any CertificateSource)? = nil) throws {
        self.log = MeshLog(destination: self.memory)
        let ca = try TestCA()
        self.ca = ca
        self.certificates = certificates ?? Certificates(ca)
        self.telemetry = ConnectionTelemetry(
            log: self.log, metrics: TrafficMetrics(MetricsRegistry(), budget: SeriesBudget()))
    }

    /// 127.x.y.`host`
    func address(_ host: UInt32) -> IPAddress { IPAddress(v4: self.network | host) }
    func text(_ host: UInt32) -> String { "\(self.address(host))" }

    /// Serves a pod: HBONE at its address and port 15008, or another.
    /// - Parameter dials: where every captured outbound connection of the pod was going.
    /// - Returns: a port at the pod's address; who connects there is an application of the pod.
    @discardableResult
    func serve(
        _ pod: EnrolledPod, at host: UInt32, tunnelPort: UInt16 = 15008, dials: IPEndpoint, _ view: any MeshView
    ) throws -> UInt16 {
        let engine = try self.engine(at: host, tunnelPort, dials: dials, view)
        return try engine.addPod(pod, namespace: -1).outbound
    }

    /// As the node proxy serves its own pod.
    func serveSelf(_ pod: EnrolledPod, at host: UInt32, _ view: any MeshView) throws {
        try self.engine(at: host, 15008, dials: IPEndpoint(address: self.address(host), port: 9), view).addOwnPod(pod)
    }

    private func engine(
        at host: UInt32, _ tunnelPort: UInt16, dials: IPEndpoint, _ view: any MeshView
    ) throws -> TunnelEngine {
        var configuration = TunnelConfiguration()
        configuration.ports = TunnelConfiguration.Ports(outbound: 0, inboundPlaintext: 0, inboundTunnel: tunnelPort)
        configuration.outboundDestination = .fixed(dials)
        configuration.listenAddress = self.address(host)
        configuration.mark = 0
        configuration.sourceSpoofing = .off
        configuration.loops = 1
        configuration.knowledgeTimeout = self.knowledgeTimeout
        self.configure(&configuration)
        let engine = try TunnelEngine(
            configuration: configuration, view: view, certificates: self.certificates, observer: self.telemetry)
        self.engines.append(engine)
        return engine
    }

    /// Every engine asks `view` from now on.
    func publish(_ view: any MeshView) { for engine in self.engines { engine.publish(view) } }

    /// For whoever publishes from elsewhere: to the engines there are now.
    var publisher: @Sendable (any MeshView) -> Void {
        let engines = self.engines
        return { view in for engine in engines { engine.publish(view) } }
    }
    /// New tunnels prove the newest certificate.
    func renewed(_ identity: WorkloadIdentity) { for engine in self.engines { engine.certificateRenewed(identity) } }

    /// Ends all engines and returns the access log.
    func stop() async -> [String] {
        for engine in self.engines { await engine.drain(deadline: .seconds(5)) }
        await self.log.flush()
        return self.memory.lines
    }

    private final class Certificates: CertificateSource {
        private let ca: TestCA
        init(_ ca: TestCA) { self.ca = ca }

        func certificate(
            for identity: WorkloadIdentity,
            completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
        ) {
            completion(
                Result {
                    let issued = try self.ca.issue(identity)
                    return WorkloadCertificate(
                        identity: identity, chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots,
                        version: 1)
                }.mapError { CertificateUnavailable("\($0)") })
        }
    }
}

/// A gateway between networks, or a proxy of another make: takes every request and dials one target.
final class GatewayView: MeshView {
    private let known: WorkloadIdentity
    private let target: IPEndpoint

    init(_ identity: WorkloadIdentity, target: IPEndpoint) {
        self.known = identity
        self.target = target
    }

    private final class Labels: ConnectionLabels {}

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        .refuse(RefusalReason(.connect, "a gateway has no applications"), labels: nil)
    }
    func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address, destination: self.target)
        guard case .permit(let permit) = PolicySet.empty.decide(facts, namespace: "", named: []) else {
            return .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil)
        }
        return .admit(permit, target: self.target, responseHeaders: [], labels: Labels())
    }
    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.known }
}
