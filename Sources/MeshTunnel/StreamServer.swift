internal import MeshHTTP
package import MeshIdentity
package import MeshLoop
package import MeshModel

/// Serves streams in this process, one server for each loop: a waypoint's layer 7. Called on the loop.
package protocol StreamServer: AnyObject {
    /// Sets the pipe's consumer. The peer hears 200 when this returns, unless the pipe was closed.
    func serve(_ stream: ServedStream)
    /// The engine ends: streams should come to their ends soon.
    func drain()
}

package typealias StreamServerMaker = @Sendable (EventLoop) -> any StreamServer

package struct ServedStream {
    package let pipe: any ByteChannel
    package let target: any StreamTarget
    // Who asks. Not the whole question: this rests with every idle connection.
    /// The TCP peer.
    package let source: IPEndpoint
    /// Proven by the peer.
    package let identity: WorkloadIdentity?
    package let dialer: any UpstreamDialer

    package init(
        pipe: any ByteChannel, target: any StreamTarget, source: IPEndpoint, identity: WorkloadIdentity?,
        dialer: any UpstreamDialer
    ) {
        self.pipe = pipe
        self.target = target
        self.source = source
        self.identity = identity
        self.dialer = dialer
    }
}

/// What a stream server may open towards the mesh, as the pod that took its stream.
package protocol UpstreamDialer {
    /// A stream of a pooled tunnel whose application is `pipe`; through a gateway, of a tunnel of its own inside a pooled one. `answered` is called once, unless the pipe's consumer was
    /// told of the end before: with what the peer has proven, or why there is no stream; then the pipe is not closed
    /// and of no more use.
    func open(
        _ route: TunnelRoute, _ pipe: PipeEnd, answered: @escaping (Result<WorkloadIdentity?, UpstreamFailure>) -> Void
    )
    /// Plain TCP, for endpoints outside the mesh. `connected` is called once: with nil, or with why there is no connection.
    func connect(
        to target: IPEndpoint, connected: @escaping (String?) -> Void
    ) throws(SystemError) -> any ByteChannel
    /// The addresses of a host name, for endpoints that are known by it only. `answered` is called once, at once when they
    /// are remembered.
    func resolve(_ host: String, answered: @escaping (Result<[IPAddress], HostUnresolved>) -> Void)
}

/// The engine's own way: its pools of tunnels, and its sockets.
struct TunnelDialer: UpstreamDialer {
    /// Which owns the server that keeps us.
    unowned let worker: TunnelWorker
    let handle: PodHandle

    func open(
        _ route: TunnelRoute, _ pipe: PipeEnd, answered: @escaping (Result<WorkloadIdentity?, UpstreamFailure>) -> Void
    ) {
        precondition(!route.expected.isEmpty, "a route without an expected identity would trust anybody")
        let request = UpstreamRequest(route: route, pipe: pipe, answered: answered)
        guard let inner = route.inner else {
            return self.take(request) { tunnel in
                request.awaited = tunnel
                tunnel.open(request)
            }
        }
        precondition(!inner.expected.isEmpty, "an inner tunnel without an expected identity would trust anybody")
        do {
            let leg = try GatewayLeg(
                of: request, worker: self.worker, handle: self.handle, route: route, inner: inner)
            request.leg = leg
            self.take(request) { leg.join($0) }
        } catch {
            request.tunnelFailed(.dialFailed(route.peer, "\(error)"), isStale: true)
        }
    }

    /// Finds a tunnel to the route's peer with room for one stream, or dials one.
    private func take(_ request: UpstreamRequest, _ join: (TunnelConnection) -> Void) {
        do {
            let (tunnel, isNew) = try self.worker.tunnel(for: request.route, self.handle)
            join(tunnel)
            if isNew { tunnel.start() }
        } catch {
            request.tunnelFailed(error.error, isStale: error.isStale)
        }
    }

    func resolve(_ host: String, answered: @escaping (Result<[IPAddress], HostUnresolved>) -> Void) {
        if let known = self.worker.hosts.known(host) { return answered(known) }
        let wait = HostWait(host, self.worker, answered)
        self.worker.hosts.get(host) { wait.end($0) }
    }

    func connect(
        to target: IPEndpoint, connected: @escaping (String?) -> Void
    ) throws(SystemError) -> any ByteChannel {
        SocketChannel(
            try self.worker.dial(self.handle, to: target, from: nil), timeout: self.worker.configuration.dialTimeout,
            connected: connected)
    }
}

/// Why there is no stream, in words.
package struct UpstreamFailure: Error, CustomStringConvertible {
    package var description: String
}

/// The wait for a name's addresses, and its end at the latest.
private final class HostWait {
    private var answered: ((Result<[IPAddress], HostUnresolved>) -> Void)?
    private var timer: LoopTimer?

    init(
        _ host: String, _ worker: TunnelWorker, _ answered: @escaping (Result<[IPAddress], HostUnresolved>) -> Void
    ) {
        self.answered = answered
        let limit = worker.configuration.lookupTimeout
        let timer = LoopTimer(loop: worker.loop) { [weak self] in
            self?.end(.failure(HostUnresolved("the host name \(host) was not looked up within \(limit)")))
        }
        self.timer = timer
        timer.arm(after: limit)
    }

    func end(_ result: Result<[IPAddress], HostUnresolved>) {
        self.timer?.cancel()
        self.timer = nil
        let answered = self.answered
        self.answered = nil
        answered?(result)
    }
}

/// One stream that a server wants, from the wait for its tunnel to the answer.
private final class UpstreamRequest: GatewayLegOwner {
    let route: TunnelRoute
    let pipe: PipeEnd
    private var answer: ((Result<WorkloadIdentity?, UpstreamFailure>) -> Void)?
    var awaited: TunnelConnection?
    /// On the way through a gateway, until that has answered.
    var leg: GatewayLeg?

    init(
        route: TunnelRoute, pipe: PipeEnd,
        answered: @escaping (Result<WorkloadIdentity?, UpstreamFailure>) -> Void
    ) {
        self.route = route
        self.pipe = pipe
        self.answer = answered
    }

    /// Of the stream that carries the server's bytes: the inner one, if there are two.
    var authority: String { self.route.inner?.authority ?? self.route.authority }
    var headers: [(name: String, value: String)] { self.route.inner?.headers ?? self.route.headers }
    var reported: ProxiedConnection? { nil }

    func gatewayAnswered(_ inner: TunnelConnection) {
        self.leg = nil
        self.awaited = inner
        inner.open(self)
    }

    func attached(to stream: TunnelStream) {
        self.awaited = nil
        // Given up while the tunnel was made.
        if self.pipe.isClosed { return stream.abort(.clientReset("the request was given up")) }
        stream.carry(self, self.pipe)
    }

    func answered(by stream: TunnelStream, _ head: HTTP2ResponseHead) {
        let answer = self.answer
        self.answer = nil
        answer?(.success(stream.tunnel.peerIdentity))
    }

    func takeBack(_ app: AppSocket) {}

    func tunnelFailed(_ error: TunnelError, isStale: Bool) {
        self.awaited = nil
        let leg = self.leg
        self.leg = nil
        leg?.cancel(error)
        let answer = self.answer
        self.answer = nil
        answer?(.failure(UpstreamFailure(description: error.description)))
    }
}
