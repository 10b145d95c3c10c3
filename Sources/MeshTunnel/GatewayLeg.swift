internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

/// Who wants a stream behind a gateway.
protocol GatewayLegOwner: StreamRequester {
    /// The gateway has let us through: the stream is to be one of `inner`, which is about to start.
    func gatewayAnswered(_ inner: TunnelConnection)
}

/// The outer stream of a double HBONE connection, and the tunnel inside it.
///
///     application ═ inner stream ═ inner tunnel ─ near end │ far end ═ outer stream ═ outer tunnel ═ gateway
///
/// To the outer stream the far end of a socket pair is an application like any other; to the inner tunnel the near
/// end is a dialled connection. So both are what they always are, with their windows, deadlines and half-closes, at
/// the price of two copies through the kernel on a path that leaves the data centre anyhow. The inner tunnel serves
/// one connection, because the gateway chooses a workload for each.
final class GatewayLeg: StreamRequester {
    private let owner: any GatewayLegOwner
    private let worker: TunnelWorker
    private let handle: PodHandle
    private let route: TunnelRoute
    private let inner: InnerTunnel
    private var far: AppSocket?
    /// Until the inner tunnel owns it.
    private var near: CInt?
    /// The outer tunnel, until it has given us a stream.
    private var awaited: TunnelConnection?
    private var stream: TunnelStream?
    private var isOver = false

    /// - Throws: when the process is out of descriptors.
    init(
        of owner: any GatewayLegOwner, worker: TunnelWorker, handle: PodHandle, route: TunnelRoute, inner: InnerTunnel
    ) throws(SystemError) {
        let (near, far) = try Sockets.pair(for: handle.namespace)
        do {
            self.far = try worker.adopt(far, isConnecting: false)
        } catch {
            Sockets.closeDescriptor(near)
            throw error
        }
        self.near = near
        self.owner = owner
        self.worker = worker
        self.handle = handle
        self.route = route
        self.inner = inner
    }

    deinit { if let near { Sockets.closeDescriptor(near) } }

    var authority: String { self.route.authority }
    var headers: [(name: String, value: String)] { self.route.headers }
    var reported: ProxiedConnection? { nil }

    func join(_ tunnel: TunnelConnection) {
        self.awaited = tunnel
        tunnel.open(self)
    }

    func attached(to stream: TunnelStream) {
        self.awaited = nil
        guard let far else { preconditionFailure("a stream for a leg that is over") }
        self.far = nil
        self.stream = stream
        stream.carry(self, far)
    }

    /// The gateway has somebody for us: the inner handshake begins.
    func answered(by stream: TunnelStream, _ head: HTTP2ResponseHead) {
        guard let near else { return }
        self.near = nil
        self.stream = nil
        let key = TunnelKey(
            podUID: self.handle.pod.uid, source: self.route.source, expected: self.inner.expected,
            peer: self.route.peer)
        let tunnel = TunnelConnection(
            dialled: near, worker: self.worker, handle: self.handle, key: key, poolID: nil)
        // The inner tunnel would only see its connection end; the outer stream knows why. When the tunnel closes
        // first, the stream ends with it and forgets this.
        stream.whenFailed = { tunnel.close($0) }
        self.owner.gatewayAnswered(tunnel)
        tunnel.start()
    }

    func takeBack(_ app: AppSocket) { app.end(reset: false) }

    func tunnelFailed(_ error: TunnelError, isStale: Bool) {
        guard !self.isOver else { return }
        self.isOver = true
        self.awaited = nil
        self.stream = nil
        self.close()
        self.owner.tunnelFailed(error, isStale: isStale)
    }

    /// The connection gave up while the gateway had not answered.
    func cancel(_ error: TunnelError) {
        self.isOver = true
        self.awaited?.abandon(self)
        self.awaited = nil
        self.stream?.abort(error)
        self.stream = nil
        self.close()
    }

    private func close() {
        self.far?.end(reset: false)
        self.far = nil
        if let near { Sockets.closeDescriptor(near) }
        self.near = nil
    }
}
