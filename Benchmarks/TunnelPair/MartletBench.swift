internal import Glibc
internal import MeshExchange
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel
internal import MeshTunnel

/// One half of a tunnel pair for benchmarks: the product's engine with a mesh that never changes.
///
/// What is measured is `TunnelEngine` as the node proxy runs it: listeners, policy decision, certificates, pool,
/// observer. What is not: xDS, telemetry and redirection (except with `--capture`).
@main
struct MartletBench {
    static func main() {
        do {
            let options = try Options(CommandLine.arguments.dropFirst())
            let engines = try Self.start(options)
            // The engines own their threads; this one has nothing to do until a signal ends the process.
            withExtendedLifetime(engines) { while true { pause() } }
        } catch {
            complain("\(error)")
            exit(2)
        }
    }

    /// One engine for each listener: the original destination of a capture port without redirection is a property
    /// of the engine.
    private static func start(_ options: Options) throws -> [TunnelEngine] {
        let identity = options.certificate.identity
        let pod = EnrolledPod(
            uid: "bench", name: "bench", namespace: identity.namespace, serviceAccount: identity.serviceAccount)
        func engine(
            at address: IPAddress, ports: TunnelConfiguration.Ports, mesh: StaticMesh,
            destination: TunnelConfiguration.OriginalDestination
        ) throws -> TunnelEngine {
            var configuration = TunnelConfiguration()
            configuration.loops = options.loops
            if let streams = options.streamsPerTunnelMax { configuration.streamsPerTunnelMax = streams }
            configuration.listenAddress = address
            configuration.isIPv6Enabled = false
            configuration.ports = ports
            configuration.outboundDestination = destination
            // The rig's proxies run in the nodes' namespaces, where answers to a borrowed address do not come back.
            configuration.sourceSpoofing = .off
            let engine = try TunnelEngine(
                configuration: configuration, view: mesh, certificates: mesh, observer: CountingObserver())
            try engine.addPod(pod, namespace: -1)
            return engine
        }
        func waypoint(_ mesh: StaticWaypoint, at listen: IPEndpoint) throws -> TunnelEngine {
            var configuration = TunnelConfiguration()
            configuration.loops = options.loops
            configuration.listenAddress = listen.address
            configuration.isIPv6Enabled = false
            configuration.ports = TunnelConfiguration.Ports(inboundTunnel: listen.port)
            let observer = SilentExchanges()
            let engine = try TunnelEngine(
                configuration: configuration, view: mesh, certificates: mesh, observer: CountingObserver(),
                makeServer: { loop in
                    ExchangeServer(
                        loop: loop, configuration: ExchangeConfiguration(), view: mesh, observer: observer, seed: 1)
                })
            try engine.addOwnPod(pod)
            return engine
        }
        switch options.role {
        case .inbound(let listen):
            let ports = TunnelConfiguration.Ports(outbound: 0, inboundPlaintext: 0, inboundTunnel: listen.port)
            let mesh = StaticMesh(certificate: options.certificate, peer: nil)
            return [try engine(at: listen.address, ports: ports, mesh: mesh, destination: .redirected)]
        case .waypoint(let listen, let service, let peer, let peerIdentity):
            let mesh = StaticWaypoint(
                certificate: options.certificate, service: service, peer: peer, peerIdentity: peerIdentity)
            return [try waypoint(mesh, at: listen)]
        case .outbound(let peer, let peerIdentity, let listeners):
            let mesh = StaticMesh(certificate: options.certificate, peer: (peer, peerIdentity))
            return try listeners.map { listener in
                let ports = TunnelConfiguration.Ports(
                    outbound: listener.address.port, inboundPlaintext: 0, inboundTunnel: 0)
                return try engine(
                    at: listener.address.address, ports: ports, mesh: mesh,
                    destination: listener.destination.map { .fixed($0) } ?? .redirected)
            }
        }
    }
}
