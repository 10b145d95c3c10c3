internal import MeshDNS
package import MeshNameService
package import MeshTelemetry
package import MeshTunnel
package import NIOCore
internal import Synchronization

/// The node's name service: answers captured questions of pods from the mesh, and passes on what the mesh does not know.
package final class DNSService: Sendable {
    static let scope = "dns"

    private struct State {
        var snapshot: MeshSnapshot?
        var pods: [String: DNSServer] = [:]
    }

    package let settings: DNSSettings
    package let forwarder: DNSForwarder
    let metrics: DNSMetrics
    let log: MeshLog
    let resolver: MeshNameResolver
    private let group: any EventLoopGroup
    private let state = Mutex(State())

    package init(
        _ settings: DNSSettings, forwarder: DNSForwarder, metrics: DNSMetrics, log: MeshLog, group: any EventLoopGroup
    ) {
        self.settings = settings
        self.forwarder = forwarder
        self.metrics = metrics
        self.log = log
        self.group = group
        self.resolver = MeshNameResolver(
            clusterDomain: settings.clusterDomain, isIPv6Enabled: settings.isIPv6Enabled)
    }

    var snapshot: MeshSnapshot? { self.state.withLock { $0.snapshot } }

    /// Questions that come from now on are answered from this.
    package func publish(_ snapshot: MeshSnapshot) { self.state.withLock { $0.snapshot = snapshot } }

    /// Returns once the pod's ports are bound and take questions.
    /// - Parameter namespace: borrowed; negative is the process's own.
    /// - Returns: the port.
    @discardableResult
    package func start(_ pod: EnrolledPod, namespace: CInt) throws -> UInt16 {
        let (server, port) = try DNSServer.start(
            pod: "\(pod.namespace)/\(pod.name)", PodNames(service: self, pod: pod), self.settings.listening,
            forwarder: self.forwarder, log: self.log.logger(Self.scope), namespace: namespace >= 0 ? namespace : nil,
            loop: self.group.next())
        let old = self.state.withLock { state in
            let old = state.pods[pod.uid]
            state.pods[pod.uid] = server
            return old
        }
        old?.loop.execute { old?.close() }
        return port
    }

    /// The pod left: what waits for a resolver is dropped.
    package func stop(uid: String) {
        guard let pod = self.state.withLock({ $0.pods.removeValue(forKey: uid) }) else { return }
        pod.loop.execute { pod.close() }
    }

    /// Answers what was asked already, takes no new connections, and returns when all is done or the time is over. A
    /// successor that listens on the same ports gets all that comes later.
    package func drain(deadline: Duration) async {
        let pods = self.state.withLock { state in
            defer { state.pods = [:] }
            return Array(state.pods.values)
        }
        let drained = pods.map { pod in
            // On its own loop, so that no pod waits for another.
            pod.loop.scheduleTask(in: TimeAmount(deadline)) { pod.close() }
        }
        for pod in pods { try? await pod.drain().get() }
        for task in drained { task.cancel() }
    }
}
