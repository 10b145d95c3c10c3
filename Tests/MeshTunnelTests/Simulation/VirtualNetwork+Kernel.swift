import Glibc
import MeshLoop
import MeshModel

// What the engines call, by descriptor.

extension VirtualNetwork: SimulatedKernel {
    func listen(_ options: Sockets.ListenOptions) throws(SystemError) -> Sockets.ListenResult {
        let endpoint = IPEndpoint(address: self.addresses[options.namespace!]!, port: options.local.port)
        guard self.listeners[endpoint] == nil else { throw SystemError(call: "bind", code: EADDRINUSE) }
        let socket = self.listen(endpoint)
        socket.isEngines = true
        return Sockets.ListenResult(descriptor: socket.descriptor, port: endpoint.port, isTransparent: false)
    }

    func dial(_ options: Sockets.DialOptions) throws(SystemError) -> CInt {
        let socket = self.connect(
            from: self.addresses[options.namespace!]!, to: options.target, original: nil)
        socket.isEngines = true
        return socket.descriptor
    }

    func accept(_ listener: CInt) -> (descriptor: CInt, peer: IPEndpoint?) {
        guard let accepted = self.accept(self.socket(listener)) else { return (-EAGAIN, nil) }
        accepted.isEngines = true
        return (accepted.descriptor, accepted.remote)
    }

    func accept(_ listener: VirtualSocket) -> VirtualSocket? {
        guard let accepted = listener.backlog?.first else { return nil }
        listener.backlog?.removeFirst()
        return accepted
    }

    func localEndpoint(of descriptor: CInt) -> IPEndpoint? { self.socket(descriptor).local }
    func originalDestination(of descriptor: CInt) -> IPEndpoint? { self.socket(descriptor).original }
    func resetOnClose(_ descriptor: CInt) { self.socket(descriptor).resetsOnClose = true }
    func finishWriting(_ descriptor: CInt) { self.finish(self.socket(descriptor)) }
    func isAtEnd(_ descriptor: CInt) -> Bool {
        let socket = self.socket(descriptor)
        return socket.inbox.isEmpty && socket.hasSeenFin
    }

    func pendingError(of descriptor: CInt) -> CInt {
        let socket = self.socket(descriptor)
        defer { socket.error = 0 }
        return socket.error
    }

    func duplicate(_ descriptor: CInt) -> CInt { self.namespace(self.addresses[descriptor]!) }

    func pair() -> (CInt, CInt) {
        let ends = (0..<2).map { _ in self.make(local: IPEndpoint(address: IPAddress(v4: 0), port: 0)) }
        for (end, other) in zip(ends, ends.reversed()) {
            end.peer = other
            end.isEngines = true
            end.isOfPair = true
        }
        return (ends[0].descriptor, ends[1].descriptor)
    }

    func close(_ descriptor: CInt) {
        if self.addresses.removeValue(forKey: descriptor) != nil { return }
        self.close(self.socket(descriptor))
    }

    func read(_ descriptor: CInt, into vectors: UnsafeBufferPointer<iovec>) -> IOResult {
        self.read(self.socket(descriptor), into: vectors)
    }

    func write(_ descriptor: CInt, from vectors: UnsafeBufferPointer<iovec>) -> IOResult {
        self.write(self.socket(descriptor), from: vectors)
    }
}
