import Logging
import MeshChannel
import MeshXDS
import Synchronization

/// A ``GeneratedMesh`` for node proxies. `delta N` changes workload N and prints how long it took until the proxy had
/// applied and acknowledged it, as JSON.
final class GeneratedFeed: Feed {
    let xds: XDSServer
    let caller = AuthenticatedCaller(
        namespace: "istio-system", serviceAccount: "ztunnel", pod: .init(name: "ztunnel", uid: "1"))
    private let mesh: GeneratedMesh
    private let revision = Atomic(0)

    init(_ mesh: GeneratedMesh, logger: Logger) {
        self.mesh = mesh
        self.xds = XDSServer(.init(quiet: .zero), authenticator: Everybody(caller: self.caller), logger: logger)
        self.xds.apply(.addresses(upserted: mesh.addresses, removed: []))
        self.xds.becomeReady()
    }

    func apply(line: String) async throws -> String? {
        guard line.hasPrefix("delta "), let index = Int(line.dropFirst(6)),
            (0..<self.mesh.workloadCount).contains(index)
        else {
            throw FeedOptions.UsageError("standard input: wanted delta and a workload's number, got \(line)")
        }
        let revision = self.revision.add(1, ordering: .relaxed).newValue
        let sent = self.pushes
        let before = ContinuousClock.now
        let changed = self.mesh.workload(index, revision: revision)
        self.xds.apply(.addresses(upserted: [.workload(changed)], removed: []))
        while self.pushes == sent || !self.isInSync { try await Task.sleep(for: .microseconds(50)) }
        let took = ContinuousClock.now - before
        let milliseconds = Double(took.components.attoseconds) / 1e15 + Double(took.components.seconds) * 1e3
        return "{\"delta_ms\": \(milliseconds)}"
    }

    private var pushes: UInt64 { self.xds.clients.flatMap(\.types).reduce(0) { $0 + $1.resourcesSent } }

    private var isInSync: Bool { self.xds.clients.allSatisfy { $0.types.allSatisfy(\.isInSync) } }
}
