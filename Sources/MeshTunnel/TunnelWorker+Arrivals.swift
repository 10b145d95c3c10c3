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
        case .socks: self.socksArrived(arrival, whenDone)
        }
    }

    // MARK: Dialling

    /// A connection from inside the pod's namespace; `source` is the address to come from, when that is possible.
    func dialDescriptor(
        _ handle: PodHandle, to target: IPEndpoint, from source: IPAddress?
    ) throws(SystemError) -> CInt {
        var options = Sockets.DialOptions(namespace: handle.namespace, target: target)
        options.mark = handle.mark
        options.keepalive = self.configuration.keepalive
        // A pod that calls itself has the address anyhow, and would meet itself in the kernel's tables. Nobody else's
        // address gets to loopback.
        if handle.maySpoofSource, let source, source != target.address, !target.address.isLoopback {
            options.source = source
        }
        return try Sockets.dial(options)
    }

    func dial(_ handle: PodHandle, to target: IPEndpoint, from source: IPAddress?) throws(SystemError) -> AppSocket {
        let descriptor = try self.dialDescriptor(handle, to: target, from: source)
        return try self.adopt(descriptor, isConnecting: true)
    }

    func adopt(_ descriptor: CInt, isConnecting: Bool) throws(SystemError) -> AppSocket {
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
        InboundPlaintext(
            app: app, worker: self, handle: arrival.handle, source: arrival.peer, destination: destination
        ).start()
    }

    private func socksArrived(_ arrival: Arrival, _ whenDone: @escaping @Sendable () -> Void) {
        do {
            let socket = try self.adopt(arrival.descriptor, isConnecting: false)
            socket.whenClosed = whenDone
            SocksConnection(socket, arrival, worker: self).start()
        } catch {
            whenDone()
            self.shared.observer.refusedEarly(
                direction: .outbound, source: arrival.peer, destination: nil,
                RefusalReason(.connect, "\(error)", kind: .shortage))
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
            reason = RefusalReason(
                .connect, "the connection was gone before its destination was known", kind: .other)
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
                RefusalReason(.connect, "\(error)", kind: .shortage))
            return nil
        }
    }

    // MARK: Inbound

    private func tunnelArrived(_ arrival: Arrival, _ whenDone: @escaping @Sendable () -> Void) {
        TunnelArrival(arrival, worker: self, whenDone: whenDone).meshChanged()
    }

    /// Dialling on somebody's behalf takes the proof that policy was asked.
    func dial(
        _ permit: Permit, _ handle: PodHandle, to target: IPEndpoint, from source: IPAddress
    ) throws(SystemError) -> AppSocket {
        try self.dial(handle, to: target, from: source)
    }
}
