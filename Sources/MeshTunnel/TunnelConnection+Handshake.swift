internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel

// From start to open: certificate, TLS, the identity that the peer must prove, and the HTTP/2 preface.

extension TunnelConnection {
    /// Begins the life of either kind: enters the worker's table, arms the deadline. The TCP connection
    /// of a dialled tunnel has its own, before that of the handshake.
    func start() {
        if let error = self.worker.opened(self) { return self.close(error) }
        self.timer = LoopTimer(loop: self.loop) { [unowned self] in self.tick() }
        let configuration = self.worker.configuration
        self.timer?.arm(after: self.isServer ? configuration.handshakeTimeout : configuration.dialTimeout)
        if self.isServer {
            self.fetchContext()
        } else {
            self.watch()
        }
    }

    func watch() {
        do { try self.loop.register(self) } catch { self.close(.dialFailed(self.peer, "\(error)")) }
    }

    /// A server session waits for its certificate without reading; a client fetched one before it dialled.
    func fetchContext() {
        let expectation = Expectation(tunnel: self)
        self.expectation = expectation
        self.worker.contexts.get(self.ownIdentity) { result in expectation.tunnel?.received(result) }
    }

    func received(_ result: Result<any IdentityContexts, TunnelError>) {
        self.forgetExpectation()
        switch result {
        case .failure(let error): self.close(error)
        case .success(let contexts):
            guard let tls = contexts.session(isServer: self.isServer) else {
                return self.close(.tlsFailed(self.peer, "out of memory"))
            }
            self.tls = tls
            if self.isServer { self.watch() } else { self.advanceHandshake() }
        }
    }

    func forgetExpectation() {
        self.expectation?.tunnel = nil
        self.expectation = nil
    }

    /// Drives the handshake with what was fed; sends its messages at once, because the peer waits for them.
    func advanceHandshake() {
        guard let tls else { return }
        let sealed = self.loop.scratch.messages
        let (progress, count) = tls.handshake(into: sealed)
        if count > 0 { self.sendSealed(sealed.baseAddress!, count) }
        guard self.phase == .handshaking else { return }
        switch progress {
        case .wantsMore: break
        case .failed: self.close(.tlsFailed(self.peer, tls.errorText))
        case .done: self.handshakeDone(tls)
        }
    }

    func handshakeDone(_ tls: any SecureSession) {
        self.worker.shared.counters.handshakeDone(isInbound: self.isServer)
        if let error = self.judgePeer(tls) {
            let sealed = self.loop.scratch.messages
            let count = tls.alert(error.alert, into: sealed)
            if count > 0 { self.sendSealed(sealed.baseAddress!, count) }
            return self.close(error)
        }
        guard tls.settle() else { return self.close(.tlsFailed(self.peer, "no keys after the handshake")) }
        // The reference serves a peer without ALPN; one that chose another protocol cannot get here.
        self.phase = .open
        self.sendPreface()
        let waiting = self.waiting
        self.waiting = []
        for connection in waiting { self.open(connection) }
    }

    /// Nil when the peer is who it must be. Nothing of HTTP/2 is read or written before this.
    func judgePeer(_ tls: any SecureSession) -> TunnelError? {
        let uris = tls.peerURIs()
        let identities = uris.compactMap { try? WorkloadIdentity(spiffe: $0) }
        if let key {
            guard let proven = identities.first(where: { self.isExpected($0, of: key) }) else {
                return .wrongIdentity(self.peer, presented: uris, expected: key.expected)
            }
            self.proof = ProvenPeer(proven)
        } else {
            let trustDomain = self.ownIdentity.trustDomain
            let aliases = self.worker.configuration.trustDomainAliases
            let isOurs = { (name: String) in name == trustDomain || aliases.contains(name) }
            guard let proven = identities.first(where: { isOurs($0.trustDomain) }) else {
                return .wrongTrustDomain(self.peer, presented: uris, trustDomain: trustDomain)
            }
            self.proof = ProvenPeer(proven)
        }
        let revocation = self.worker.revocation
        if revocation.isLookedAt { self.peerCertificates = tls.peerCertificates }
        guard let error = revocation.refusal(of: self) else { return nil }
        self.worker.shared.observer.rejectedByRevocation(self.isServer ? .inbound : .outbound)
        return error
    }

    /// An alias stands for the mesh's own trust domain, and the other way round; never for a foreign one.
    private func isExpected(_ identity: WorkloadIdentity, of key: TunnelKey) -> Bool {
        if key.expected.contains(identity) { return true }
        let aliases = self.worker.configuration.trustDomainAliases
        if aliases.isEmpty { return false }
        let isOurs = { (name: String) in name == self.ownIdentity.trustDomain || aliases.contains(name) }
        return isOurs(identity.trustDomain)
            && key.expected.contains {
                isOurs($0.trustDomain) && $0.namespace == identity.namespace
                    && $0.serviceAccount == identity.serviceAccount
            }
    }

    func sendPreface() {
        let configuration = self.worker.configuration
        var own = HTTP2Settings()
        own.initialWindowBytes = configuration.streamWindowBytes
        own.frameBytesMax = configuration.frameBytesMax
        own.headerListBytesMax = self.decoder.listBytesMax
        own.enablePush = false
        if self.isServer {
            own.maxConcurrentStreams = configuration.inboundStreamsMax
        } else {
            HTTP2FrameWriter.appendClientPreface(to: &self.control)
        }
        HTTP2FrameWriter.appendSettings(own.announcement(from: self.isServer ? .server : .client), to: &self.control)
        if let increment = self.receiveWindow.grow(to: configuration.tunnelWindowBytes) {
            HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &self.control)
        }
        self.wantsTurn()
    }

    /// The first SETTINGS came: the handshake's deadline gives way to the keepalive.
    func proven() {
        guard !self.isProven else { return }
        self.isProven = true
        self.worker.proven(self)
        self.armKeepalive()
        // Accepted in time, but the engine ends: its first streams are served, and others go elsewhere.
        if self.worker.isDraining { self.goAway() }
    }
}
