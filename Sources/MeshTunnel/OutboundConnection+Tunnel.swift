internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// The ways out: a stream of a tunnel, a stream inside a stream, or plain TCP.

extension OutboundConnection: GatewayLegOwner {
    /// Of the stream that carries the application: the inner one, if there are two.
    var authority: String { self.route.map { $0.inner?.authority ?? $0.authority } ?? "" }
    var headers: [(name: String, value: String)] { self.route.map { $0.inner?.headers ?? $0.headers } ?? [] }
    var reported: ProxiedConnection? { self.proxied }

    func enterTunnel(_ route: TunnelRoute) {
        precondition(!route.expected.isEmpty, "a route without an expected identity would trust anybody")
        guard let inner = route.inner else { return self.take(route) { self.join($0) } }
        precondition(!inner.expected.isEmpty, "an inner tunnel without an expected identity would trust anybody")
        do {
            let leg = try GatewayLeg(
                of: self, worker: self.worker, handle: self.handle, route: route, inner: inner)
            self.leg = leg
            self.take(route) { leg.join($0) }
        } catch {
            self.tunnelFailed(.dialFailed(route.peer, "\(error)"), isStale: true)
        }
    }

    /// Finds a tunnel to the route's peer with room for one stream, or dials one.
    private func take(_ route: TunnelRoute, _ join: (TunnelConnection) -> Void) {
        do {
            let (tunnel, isNew) = try self.worker.tunnel(for: route, self.handle)
            join(tunnel)
            if isNew { tunnel.start() }
        } catch {
            self.tunnelFailed(error.error, isStale: error.isStale)
        }
    }

    private func join(_ tunnel: TunnelConnection) {
        self.awaited = tunnel
        tunnel.open(self)
    }

    func gatewayAnswered(_ inner: TunnelConnection) {
        self.leg = nil
        self.join(inner)
    }

    func attached(to stream: TunnelStream) {
        self.awaited = nil
        guard let app else { preconditionFailure("a stream for a connection that is closed") }
        self.app = nil
        stream.carry(self, app)
    }

    func answered(by stream: TunnelStream, _ head: HTTP2ResponseHead) {
        guard let route else { return }
        self.worker.book.succeeded(route.peer.address)
        guard let inner = route.inner else { return }
        let headers = (0..<head.fields.count).map { index in
            (name: head.fields.name(index), value: head.fields.value(index))
        }
        if let labels = inner.labels(headers, stream.tunnel.peerIdentity) {
            self.proxied.labels = labels
        }
        self.proxied.announce()
    }

    func takeBack(_ app: AppSocket) {
        self.app = app
        app.handler = self
        self.proxied.carrier = self
    }

    func tunnelFailed(_ error: TunnelError, isStale: Bool) {
        self.awaited = nil
        let leg = self.leg
        self.leg = nil
        leg?.cancel(error)
        guard let route else { return }
        self.failed(at: route.peer.address, error, isStale: isStale)
    }
}

extension OutboundConnection: RelayDialer {
    func passThrough(to target: IPEndpoint) {
        guard let app else { return }
        do {
            let dialled = try self.worker.dial(self.handle, to: target, from: nil)
            self.app = nil
            PlainRelay(
                client: app, target: dialled, targetAddress: target, proxied: self.proxied, dialer: self
            ).start(self.worker)
        } catch {
            self.failed(at: target.address, .dialFailed(target, "\(error)"), isStale: false)
        }
    }

    func connected(to target: IPEndpoint) { self.worker.book.succeeded(target.address) }

    func notConnected(to target: IPEndpoint, _ client: AppSocket, _ error: TunnelError) {
        self.takeBack(client)
        self.failed(at: target.address, error, isStale: false)
    }
}
