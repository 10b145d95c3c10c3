internal import MeshLoop
internal import Synchronization

extension TunnelEngine {
    /// Starts to serve a pod: binds its three ports inside its network namespace.
    ///
    /// - Parameter namespace: descriptor of the pod's network namespace, borrowed; -1: the process's own.
    /// - Returns: the ports that were bound.
    @discardableResult
    public func addPod(
        _ pod: EnrolledPod, namespace: CInt
    ) throws(PodStartError) -> TunnelConfiguration.Ports {
        try self.add(pod) { configuration throws(PodStartError) in
            try PodSockets(pod: pod, namespace: namespace, configuration: configuration)
        }
    }

    /// Takes HBONE for the proxy's own pod, with the same policies: so its metrics can be scraped through the mesh.
    ///
    /// In the process's own namespace, where nothing is captured: no capture ports, no mark, and the application, which
    /// is this process, is dialled from the own address.
    @discardableResult
    public func addOwnPod(_ pod: EnrolledPod) throws(PodStartError) -> TunnelConfiguration.Ports {
        try self.add(pod) { configuration throws(PodStartError) in
            try PodSockets(own: pod, configuration: configuration)
        }
    }

    private func add(
        _ pod: EnrolledPod, _ bind: (TunnelConfiguration) throws(PodStartError) -> PodSockets
    ) throws(PodStartError) -> TunnelConfiguration.Ports {
        let acceptor = try self.state.withLock { state throws(PodStartError) -> Int in
            guard !state.isDraining else { throw .draining }
            guard state.pods[pod.uid] == nil else { throw .alreadyServed(uid: pod.uid) }
            state.nextAcceptor += 1
            return state.nextAcceptor % self.workers.count
        }
        let sockets = try bind(self.shared.configuration)
        let handle = PodHandle(
            pod: pod, ports: sockets.ports, namespaceDescriptor: sockets.namespace,
            maySpoofSource: sockets.maySpoofSource, mark: sockets.mark)
        let isRegistered = self.state.withLock { state in
            guard !state.isDraining, state.pods[pod.uid] == nil else { return false }
            state.pods[pod.uid] = handle
            return true
        }
        guard isRegistered else {
            sockets.close()
            throw .alreadyServed(uid: pod.uid)
        }
        let (workers, loads) = (self.workers, self.loads)
        // Once for each loop, not for each connection.
        let leavers = workers.indices.map { index -> @Sendable () -> Void in { loads.remove(index) } }
        workers[acceptor].execute { worker in
            guard !handle.isRemoved else { return sockets.close() }
            worker.listen(
                uid: pod.uid,
                sockets.all.map { kind, socket in
                    (
                        socket,
                        { descriptor, peer in
                            let arrival = Arrival(kind: kind, descriptor: descriptor, peer: peer, handle: handle)
                            let chosen = loads.choose(preferring: acceptor)
                            loads.add(chosen)
                            let leave = leavers[chosen]
                            if chosen == acceptor {
                                worker.arrived(arrival, whenDone: leave)
                            } else {
                                workers[chosen].execute { $0.arrived(arrival, whenDone: leave) }
                            }
                        }
                    )
                })
        }
        return sockets.ports
    }
}
