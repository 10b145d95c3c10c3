internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel
internal import MeshPolicy

// What happens with an accepted connection, and with an inbound CONNECT.

extension TunnelWorker {
    /// `whenDone` is called once, when the connection has left this loop.
    func arrived(_ arrival: Arrival, whenDone: @escaping @Sendable () -> Void) {
        guard !arrival.handle.isRemoved else {
            Sockets.closeDescriptor(arrival.descriptor)
            return whenDone()
        }
        switch arrival.kind {
        case .outbound: self.outboundArrived(arrival, whenDone)
        case .plaintext: self.plaintextArrived(arrival, whenDone)
        case .tunnel: self.tunnelArrived(arrival, whenDone)
        }
    }

    // MARK: Dialling

    /// A connection from inside the pod's namespace; `source` is the address to come from, when that is possible.
    func dialDescriptor(
        _ handle: PodHandle, to target: IPEndpoint, from source: IPAddress?
    ) throws(SystemError) -> CInt {
        var options = Sockets.DialOptions(namespace: handle.namespace, target: target)
        options.mark = self.configuration.mark
        options.keepalive = self.configuration.keepalive
        // A pod that calls itself has the address anyhow, and would meet itself in the kernel's tables.
        if handle.maySpoofSource, let source, source != target.address { options.source = source }
        return try Sockets.dial(options)
    }

    func dial(_ handle: PodHandle, to target: IPEndpoint, from source: IPAddress?) throws(SystemError) -> AppSocket {
        let descriptor = try self.dialDescriptor(handle, to: target, from: source)
        return try self.adopt(descriptor, isConnecting: true)
    }

    private func adopt(_ descriptor: CInt, isConnecting: Bool) throws(SystemError) -> AppSocket {
        let socket = AppSocket(descriptor: descriptor, loop: self.loop, isConnecting: isConnecting)
        do {
            try self.loop.register(socket)
            return socket
        } catch {
            socket.close()
            throw error
        }
    }

    // MARK: Outbound

    private func outboundArrived(_ arrival: Arrival, _ whenDone: @escaping @Sendable () -> Void) {
        let destination = self.destination(of: arrival, self.configuration.outboundDestination)
        guard let app = self.captured(arrival, .outbound, destination, whenDone), let destination else { return }
        OutboundConnection(
            app: app, worker: self, handle: arrival.handle, source: arrival.peer, destination: destination
        ).start()
    }

    private func plaintextArrived(_ arrival: Arrival, _ whenDone: @escaping @Sendable () -> Void) {
        let destination = self.destination(of: arrival, self.configuration.plaintextDestination)
        guard let app = self.captured(arrival, .inbound, destination, whenDone), let destination else { return }
        let handle = arrival.handle
        let proxied = ProxiedConnection(
            worker: self, direction: .inbound, pod: handle.pod, source: arrival.peer, destination: destination)
        let question = InboundQuestion(
            pod: handle.pod, source: arrival.peer, local: destination, identity: nil,
            via: .plaintext(originalDestination: destination))
        switch self.view.admitInbound(question) {
        case .refuse(_, let reason, let labels):
            if let labels {
                proxied.open(
                    transport: .tcp, originalDestination: destination, destination: destination, authority: nil,
                    peerIdentity: nil, labels: labels)
            }
            app.end(reset: false)
            proxied.refuse(reason)
        case .admit(let permit, let target, _, let labels):
            proxied.admission = question
            proxied.open(
                transport: .tcp, originalDestination: destination, destination: target, authority: nil,
                peerIdentity: nil, labels: labels)
            do {
                let dialled = try self.dial(permit, handle, to: target, from: arrival.peer.address)
                PlainRelay(client: app, target: dialled, targetAddress: target, proxied: proxied).start(self)
            } catch {
                app.end(reset: false)
                proxied.end(.dialFailed(target, "\(error)"))
            }
        }
    }

    /// Where a captured connection was going. Nil when the kernel no longer knows the connection at all.
    private func destination(
        of arrival: Arrival, _ configured: TunnelConfiguration.OriginalDestination
    ) -> IPEndpoint? {
        switch configured {
        case .fixed(let endpoint): endpoint
        case .redirected:
            Sockets.originalDestination(of: arrival.descriptor) ?? Sockets.localEndpoint(of: arrival.descriptor)
        }
    }

    /// Adopts a captured connection unless it would come back to us. The ports of the mesh are refused on every
    /// address: nothing behind them speaks anything but HBONE, and nobody is captured on the way to that.
    private func captured(
        _ arrival: Arrival, _ direction: ConnectionRecord.Direction, _ destination: IPEndpoint?,
        _ whenDone: @escaping @Sendable () -> Void
    ) -> AppSocket? {
        var reason: RefusalReason?
        if let destination {
            let isOurs = arrival.handle.ports.contains(destination.port)
            let isHere =
                destination.address.isLoopback || direction == .inbound
                || destination == Sockets.localEndpoint(of: arrival.descriptor)
            if isOurs, isHere { reason = TunnelError.selfCall(destination).refusal }
        } else {
            reason = RefusalReason(.connect, "the connection was gone before its destination was known")
        }
        guard reason == nil else {
            Sockets.closeDescriptor(arrival.descriptor)
            whenDone()
            self.shared.observer.refusedEarly(
                direction: direction, source: arrival.peer, destination: destination, reason!)
            return nil
        }
        if let keepalive = self.configuration.keepalive { Sockets.setKeepalive(arrival.descriptor, keepalive) }
        do {
            let socket = try self.adopt(arrival.descriptor, isConnecting: false)
            socket.whenClosed = whenDone
            return socket
        } catch {
            whenDone()
            self.shared.observer.refusedEarly(
                direction: direction, source: arrival.peer, destination: destination,
                RefusalReason(.connect, "\(error)"))
            return nil
        }
    }

    // MARK: Inbound tunnels

    private func tunnelArrived(_ arrival: Arrival, _ whenDone: @escaping @Sendable () -> Void) {
        let handle = arrival.handle
        let local = Sockets.localEndpoint(of: arrival.descriptor)
        guard let local, let identity = self.view.identity(of: handle.pod) else {
            Sockets.closeDescriptor(arrival.descriptor)
            whenDone()
            let text =
                "pod \(handle.pod.namespace)/\(handle.pod.name) is not known to the mesh yet; "
                + "is the control plane connected?"
            return self.shared.observer.refusedEarly(
                direction: .inbound, source: arrival.peer, destination: local, RefusalReason(.connect, text))
        }
        TunnelConnection(
            accepted: arrival.descriptor, worker: self, handle: handle, peer: arrival.peer, local: local,
            ownIdentity: identity, release: whenDone
        ).start()
    }

    /// Dialling on somebody's behalf takes the proof that policy was asked.
    func dial(
        _ permit: Permit, _ handle: PodHandle, to target: IPEndpoint, from source: IPAddress
    ) throws(SystemError) -> AppSocket {
        try self.dial(handle, to: target, from: source)
    }
}

extension TunnelConnection {
    /// A new inbound stream: judged, and its target dialled.
    func accept(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        guard let local else { preconditionFailure("a dialled tunnel accepts no streams") }
        let stream = TunnelStream(tunnel: self, id: id)
        let proxied = ProxiedConnection(
            worker: self.worker, direction: .inbound, pod: self.handle.pod, source: self.peer, destination: local)
        self.streams[id] = stream
        stream.proxied = proxied
        proxied.carrier = stream
        self.worker.shared.counters.streams.add(1, ordering: .relaxed)

        let request: HTTP2ConnectRequest
        do { request = try HTTP2ConnectRequest(validating: fields) } catch {
            switch error {
            case .notConnect, .badAuthority:
                stream.refuse(status: 400) { $0.refuse(RefusalReason(.none, "\(error)")) }
            default:
                proxied.refuse(RefusalReason(.none, "malformed request: \(error)"))
                try self.broke(HTTP2StreamError(id, .malformed(error)))
            }
            return
        }
        self.judge(stream, proxied, request, local)
        if endStream, !stream.isClosed { stream.peerEnded() }
    }

    private func judge(
        _ stream: TunnelStream, _ proxied: ProxiedConnection, _ request: HTTP2ConnectRequest, _ local: IPEndpoint
    ) {
        let headers = (0..<request.fields.count).compactMap { index -> (name: String, value: String)? in
            let name = request.fields.name(index)
            return name.hasPrefix(":") ? nil : (name, request.fields.value(index))
        }
        let question = InboundQuestion(
            pod: self.handle.pod, source: self.peer, local: local, identity: self.peerIdentity,
            via: .hbone(authority: request.authority, headers: headers))
        let identity = self.peerIdentity
        switch self.worker.view.admitInbound(question) {
        case .refuse(let status, let reason, let labels):
            if let labels {
                proxied.open(
                    transport: .hbone, originalDestination: local, destination: local,
                    authority: request.authority, peerIdentity: identity, labels: labels)
            }
            stream.refuse(status: status) { $0.refuse(reason) }
        case .admit(let permit, let target, let responseHeaders, let labels):
            guard !self.handle.ports.contains(target.port) else {
                return stream.refuse(status: 503) { $0.refuse(TunnelError.selfCall(target).refusal) }
            }
            proxied.admission = question
            proxied.open(
                transport: .hbone, originalDestination: local, destination: target, authority: request.authority,
                peerIdentity: identity, labels: labels)
            do {
                stream.responseHeaders = responseHeaders
                stream.dial(try self.worker.dial(permit, self.handle, to: target, from: self.peer.address))
            } catch {
                stream.dialFailed(.dialFailed(target, "\(error)"))
            }
        }
    }
}
