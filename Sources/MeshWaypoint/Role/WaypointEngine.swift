internal import MeshDirectory
internal import MeshExchange
package import MeshIdentity
package import MeshTunnel
internal import Synchronization

/// What the role needs of the engine: tunnels and layer 7 together.
package protocol WaypointEngine: Sendable {
    func publish(_ snapshot: WaypointSnapshot)
    func publish(_ revocation: Revocation)
    func certificateRenewed(_ identity: WorkloadIdentity)
    /// Takes HBONE for our own pod.
    func listen(as pod: EnrolledPod) throws
    func drain(deadline: Duration) async
}

/// The product's: a tunnel engine with a layer-7 server on every loop.
final class RealWaypointEngine: WaypointEngine {
    private let tunnel: TunnelEngine

    init(
        _ configuration: TunnelConfiguration, _ snapshot: WaypointSnapshot, certificates: any CertificateSource,
        observer: any ConnectionObserver, exchanges: any ExchangeObserver
    ) throws(TunnelStartError) {
        let loops = Atomic<UInt64>(UInt64.random(in: 1...UInt64(UInt32.max)))
        self.tunnel = try TunnelEngine(
            configuration: configuration, view: snapshot, certificates: certificates, observer: observer,
            resolver: nil,
            makeServer: { loop in
                ExchangeServer(
                    loop: loop, configuration: ExchangeConfiguration(), view: snapshot, observer: exchanges,
                    seed: loops.add(1, ordering: .relaxed).newValue & UInt64(UInt32.max))
            })
    }

    /// Layer 7 first: a stream that the tunnel admits finds its service served.
    func publish(_ snapshot: WaypointSnapshot) {
        self.tunnel.withServers { ($0 as? ExchangeServer)?.publish(snapshot) }
        self.tunnel.publish(snapshot)
    }

    func publish(_ revocation: Revocation) { self.tunnel.publish(revocation) }
    func certificateRenewed(_ identity: WorkloadIdentity) { self.tunnel.certificateRenewed(identity) }
    func listen(as pod: EnrolledPod) throws { try self.tunnel.addOwnPod(pod) }
    func drain(deadline: Duration) async { await self.tunnel.drain(deadline: deadline) }
}

/// The place of the engine, which is made late: once the mesh and our certificate are known. Whatever is published before
/// is kept for the moment it is made.
final class EngineSlot: Sendable {
    private struct Content {
        var snapshot: WaypointSnapshot?
        var engine: (any WaypointEngine)?
        var revocation = Revocation.ignored
    }
    private let content = Mutex(Content())

    var engine: (any WaypointEngine)? { self.content.withLock { $0.engine } }
    var snapshot: WaypointSnapshot? { self.content.withLock { $0.snapshot } }

    func publish(_ snapshot: WaypointSnapshot) {
        // Under the lock: snapshots reach the engine in the order in which they were published.
        self.content.withLock { content in
            content.snapshot = snapshot
            content.engine?.publish(snapshot)
        }
    }

    func publish(_ revocation: Revocation) {
        self.content.withLock { content in
            content.revocation = revocation
            content.engine?.publish(revocation)
        }
    }

    /// - Parameter make: gets the newest snapshot. When it throws, the place stays empty.
    func fill(_ make: (WaypointSnapshot) throws -> any WaypointEngine) rethrows -> (any WaypointEngine)? {
        try self.content.withLock { content in
            guard content.engine == nil, let snapshot = content.snapshot else { return content.engine }
            let engine = try make(snapshot)
            engine.publish(content.revocation)
            content.engine = engine
            return engine
        }
    }
}
