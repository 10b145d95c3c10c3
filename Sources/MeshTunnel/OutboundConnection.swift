internal import Glibc
internal import MeshLoop
internal import MeshModel

/// A captured connection of an application, from accept to the answer of its CONNECT; then its stream or relay has it.
///
///     routing ─tunnel─▶ waiting for a tunnel ─open─▶ waiting for the answer ─200─▶ handed over
///        ▲                       │                          │
///        └──another endpoint─────┴──────────────────────────┘
///     routing ─passthrough─▶ handed over          any of them ─refused, failed─▶ closed
final class OutboundConnection: AppSocketHandler, Carrier {
    let proxied: ProxiedConnection
    private(set) var route: TunnelRoute?
    private let worker: TunnelWorker
    private let handle: PodHandle
    private let view: any MeshView
    private let destination: IPEndpoint
    private var app: AppSocket?
    private var attempts: DialAttempts
    /// The tunnel that will open a stream for this connection; it lets go of us when it closes, and we of it.
    private var awaited: TunnelConnection?

    init(
        app: AppSocket, worker: TunnelWorker, handle: PodHandle, source: IPEndpoint, destination: IPEndpoint
    ) {
        self.app = app
        self.worker = worker
        self.handle = handle
        self.view = worker.view
        self.destination = destination
        self.attempts = DialAttempts(attemptsMax: worker.configuration.dialAttemptsMax)
        self.proxied = ProxiedConnection(
            worker: worker, direction: .outbound, pod: handle.pod, source: source, destination: destination)
    }

    func start() {
        self.proxied.carrier = self
        self.app?.handler = self
        self.decide()
    }

    private func decide() {
        let question = OutboundQuestion(
            pod: self.handle.pod, source: self.proxied.source, destination: self.destination,
            excluding: self.attempts.excluded)
        switch self.view.routeOutbound(question) {
        case .refuse(let reason, let labels):
            if let labels, !self.proxied.isOpen {
                self.opened(.tcp, to: self.destination, authority: nil, labels: labels)
            }
            self.closeApp()
            self.proxied.refuse(reason)
        case .passthrough(let target, let labels):
            self.opened(.tcp, to: target, authority: nil, labels: labels)
            self.passThrough(to: target)
        case .tunnel(let route):
            self.opened(.hbone, to: route.peer, authority: route.authority, labels: route.labels)
            self.route = route
            self.enterTunnel(route)
        }
    }

    private func opened(
        _ transport: ConnectionRecord.Transport, to destination: IPEndpoint, authority: String?,
        labels: any ConnectionLabels
    ) {
        if self.proxied.isOpen {
            self.proxied.update {
                $0.destination = destination
                $0.authority = authority
                $0.transport = transport
                $0.labels = labels
            }
        } else {
            self.proxied.open(
                transport: transport, originalDestination: self.destination, destination: destination,
                authority: authority, peerIdentity: nil, labels: labels)
        }
    }

    private func passThrough(to target: IPEndpoint) {
        guard let app else { return }
        do {
            let dialled = try self.worker.dial(self.handle, to: target, from: nil)
            self.app = nil
            PlainRelay(client: app, target: dialled, targetAddress: target, proxied: self.proxied).start(self.worker)
        } catch {
            self.closeApp()
            self.proxied.end(.dialFailed(target, "\(error)"))
        }
    }

    // MARK: Tunnel

    private func enterTunnel(_ route: TunnelRoute) {
        precondition(!route.expected.isEmpty, "a route without an expected identity would trust anybody")
        let key = TunnelKey(
            podUID: self.handle.pod.uid, source: route.source, expected: route.expected, peer: route.peer)
        switch self.worker.pool.place(key) {
        case .full: self.tunnelFailed(.tooManyTunnels(route.peer), isStale: true)
        case .use(let id):
            guard let tunnel = self.worker.pooled[id] else {
                preconditionFailure("the pool knows a tunnel that is gone")
            }
            self.join(tunnel)
        case .open(let id):
            do {
                let descriptor = try self.worker.dialDescriptor(self.handle, to: route.peer, from: nil)
                let tunnel = TunnelConnection(
                    dialled: descriptor, worker: self.worker, handle: self.handle, key: key, poolID: id)
                self.worker.pooled[id] = tunnel
                self.join(tunnel)
                tunnel.start()
            } catch {
                self.worker.pool.forget(id)
                self.tunnelFailed(.dialFailed(route.peer, "\(error)"), isStale: false)
            }
        }
    }

    private func join(_ tunnel: TunnelConnection) {
        self.awaited = tunnel
        tunnel.open(self)
    }

    func attached(to stream: TunnelStream) {
        self.awaited = nil
        guard let app else { preconditionFailure("a stream for a connection that is closed") }
        self.app = nil
        stream.carry(self, app)
    }

    /// The stream could not be had; the application is ours again.
    func takeBack(_ app: AppSocket) {
        self.app = app
        app.handler = self
        self.proxied.carrier = self
    }

    func tunnelFailed(_ error: TunnelError, isStale: Bool) {
        self.awaited = nil
        guard self.app != nil, let route else { return }
        let mayTryAgain = self.attempts.failed(at: route.peer.address, error, isStale: isStale)
        guard mayTryAgain, !self.handle.isRemoved else {
            self.closeApp()
            return self.proxied.end(error)
        }
        self.decideAgain(because: error)
    }

    /// When the mesh has no other endpoint, the first error is the one that explains.
    private func decideAgain(because error: TunnelError) {
        let question = OutboundQuestion(
            pod: self.handle.pod, source: self.proxied.source, destination: self.destination,
            excluding: self.attempts.excluded)
        guard case .tunnel(let route) = self.view.routeOutbound(question),
            !self.attempts.excluded.contains(route.peer.address)
        else {
            self.closeApp()
            return self.proxied.end(error)
        }
        self.opened(.hbone, to: route.peer, authority: route.authority, labels: route.labels)
        self.route = route
        self.enterTunnel(route)
    }

    // MARK: While waiting

    func appConnected(_ socket: AppSocket) {}
    func appReadable(_ socket: AppSocket) {}
    func appWritable(_ socket: AppSocket) {}
    func appTurn(_ socket: AppSocket) {}

    func appFailed(_ socket: AppSocket, code: CInt) { self.abort(.clientReset(SystemError.text(code))) }

    func abort(_ error: TunnelError) {
        guard self.app != nil else { return }
        self.awaited?.abandon(self)
        self.awaited = nil
        self.closeApp()
        self.proxied.end(error)
    }

    /// A client that is refused sees its connection closed; bytes it has sent make that a reset.
    private func closeApp() {
        self.app?.end(reset: false)
        self.app = nil
    }
}
