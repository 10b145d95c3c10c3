import Glibc
import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshLoop
import MeshModel
import MeshRoutes
import MeshTunnel

/// The engine of a waypoint without a thread, a socket or a clock: a test runs it by hand, in microseconds.
final class MemoryWaypoint {
    private(set) var now: UInt64 = 1_000_000_000
    let loop: EventLoop
    let server: ExchangeServer
    let exchanges = RecordedExchanges()
    private let dialer = MemoryDialer()
    /// Connections that the engine has opened to endpoints.
    var upstreams: [MemoryChannel] { self.dialer.channels }
    private let kernel = NoKernel()

    /// - Parameters:
    ///   - backendSpeaks: what the endpoint, `10.0.0.2:80`, speaks.
    ///   - endpoints: how many there are, at following addresses.
    ///   - plan: of each request; nil: to the endpoint as it is.
    init(
        backendSpeaks: ServicePort.AppProtocol = .http11, endpoints: Int = 1,
        configure: (inout ExchangeConfiguration) -> Void = { _ in },
        plan: (@Sendable (RequestHead, RequestOrigin, Backend) -> ExchangePlan)? = nil
    ) {
        self.loop = EventLoop(name: "test", simulated: self.kernel, now: self.now)
        let backend = Backend(
            service: Rig.service, port: 80, appProtocol: backendSpeaks,
            endpoints: (0..<endpoints).map {
                UpstreamEndpoint(
                    workload: "server-\($0)",
                    address: IPEndpoint(address: IPAddress(v4: 0x0A00_0002 + UInt32($0)), port: 80), route: nil)
            })
        let port = FakePort(
            .unknown, needsHTTP: true,
            plan: { plan?($0, $1, backend) ?? .forward(ForwardPlan(request: $0, backend: backend)) },
            stream: { _, _ in .forward(backend, route: nil) })
        var configuration = ExchangeConfiguration()
        configure(&configuration)
        self.server = ExchangeServer(
            loop: self.loop, configuration: configuration, view: port, observer: self.exchanges, seed: 7)
    }

    /// A client's connection, which has said nothing.
    func accept() -> MemoryChannel {
        let channel = MemoryChannel()
        self.server.serve(
            ServedStream(
                pipe: channel, target: ServedTarget(.service(Rig.service, port: 80), local: Rig.servicePort),
                source: IPEndpoint(address: Rig.loopback, port: 1_000), identity: Rig.identity("client"),
                dialer: self.dialer))
        return channel
    }

    /// A client that speaks HTTP/2 and has introduced itself.
    func client(_ settings: [HTTP2Setting] = []) -> FramePeer {
        let peer = FramePeer(self.accept(), .client)
        peer.begin(settings)
        return peer
    }

    /// Connections that were asked for are there, timers that are due have fired, and so on until nothing moves.
    func settle(after delay: Duration = .zero) {
        self.now += UInt64(delay / .nanoseconds(1))
        for _ in 0..<8 {
            self.dialer.connectAll()
            self.loop.simulateRound(at: self.now, [])
            for channel in self.dialer.channels { channel.pump() }
        }
    }

    /// Every HTTP/1 endpoint that was asked something answers it.
    func answerAll(_ text: String = ok("hello")) {
        self.settle()
        for channel in self.upstreams where !channel.isOver && !channel.take().isEmpty { channel.deliver(text) }
    }

    /// The endpoint's side of an HTTP/2 connection, introduced.
    func endpoint(_ index: Int = 0, _ settings: [HTTP2Setting] = []) -> FramePeer {
        self.settle()
        let peer = FramePeer(self.upstreams[index], .server)
        peer.begin(settings)
        return peer
    }
}

private final class MemoryDialer: UpstreamDialer {
    private(set) var channels: [MemoryChannel] = []
    private var connecting: [(String?) -> Void] = []

    func open(
        _ route: TunnelRoute, _ pipe: PipeEnd,
        answered: @escaping (Result<WorkloadIdentity?, UpstreamFailure>) -> Void
    ) { preconditionFailure("the endpoints of this test are reached without a tunnel") }

    func connect(
        to target: IPEndpoint, connected: @escaping (String?) -> Void
    ) throws(SystemError) -> any ByteChannel {
        let channel = MemoryChannel()
        self.channels.append(channel)
        self.connecting.append(connected)
        return channel
    }

    func resolve(_ host: String, answered: @escaping (Result<[IPAddress], HostUnresolved>) -> Void) {
        preconditionFailure("the endpoints of this test have addresses")
    }

    func connectAll() {
        let connecting = self.connecting
        self.connecting = []
        for connected in connecting { connected(nil) }
    }
}

/// Nothing is ever asked of it: no descriptor leads here.
private final class NoKernel: SimulatedKernel {
    func listen(_ options: Sockets.ListenOptions) throws(SystemError) -> Sockets.ListenResult { preconditionFailure() }
    func dial(_ options: Sockets.DialOptions) throws(SystemError) -> CInt { preconditionFailure() }
    func accept(_ listener: CInt) -> (descriptor: CInt, peer: IPEndpoint?) { preconditionFailure() }
    func localEndpoint(of descriptor: CInt) -> IPEndpoint? { nil }
    func originalDestination(of descriptor: CInt) -> IPEndpoint? { nil }
    func pendingError(of descriptor: CInt) -> CInt { 0 }
    func resetOnClose(_ descriptor: CInt) {}
    func finishWriting(_ descriptor: CInt) {}
    func close(_ descriptor: CInt) {}
    func duplicate(_ descriptor: CInt) -> CInt { preconditionFailure() }
    func pair() -> (CInt, CInt) { preconditionFailure() }
    func read(_ descriptor: CInt, into vectors: UnsafeBufferPointer<iovec>) -> IOResult { .wouldBlock }
    func write(_ descriptor: CInt, from vectors: UnsafeBufferPointer<iovec>) -> IOResult { .wouldBlock }
    func isAtEnd(_ descriptor: CInt) -> Bool { false }
    func watch(_ source: EventSource, edgeTriggered: Bool) {}
    func unwatch(_ source: EventSource) {}
}
