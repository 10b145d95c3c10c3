import MeshModel
import MeshTunnel

// Bad luck.

extension SimulatedWorld {
    func strike() {
        let fault = self.pendingFaults.remove(at: self.random.below(self.pendingFaults.count))
        switch fault {
        case .tunnelReset: if let wire = self.tunnelWire() { self.network.lose(wire) }
        case .wireCut: if let wire = self.tunnelWire() { self.network.cut(wire) }
        case .policyDenies: self.server.publish(SimulatedView(TwoPods.serverIdentity, denies: true))
        case .serverDrains: self.beginDrains([self.server])
        case .clientDrains: self.beginDrains([self.client])
        case .serverRemoved: self.server.removePod(uid: TwoPods.serverPod.uid)
        case .clientRemoved: self.client.removePod(uid: TwoPods.clientPod.uid)
        case .targetGone: if !self.target.isClosed { self.network.close(self.target) }
        case .pairBreaks:
            let ends = self.network.sockets.values.filter(\.isOfPair).sorted { $0.descriptor < $1.descriptor }
            if !ends.isEmpty { self.network.lose(ends[self.random.below(ends.count)]) }
        case .clientReset, .certificateFails, .targetSilent, .wrongIdentity, .slowCertificates: break
        }
    }

    private func tunnelWire() -> VirtualSocket? {
        let wires = self.network.sockets.values
            .filter { $0.remote.map { Self.tunnelPorts.contains($0.port) } ?? false }.sorted {
                $0.descriptor < $1.descriptor
            }
        return wires.isEmpty ? nil : wires[self.random.below(wires.count)]
    }

    func beginDrains(_ engines: [TunnelEngine]) {
        for engine in engines {
            let deadline = Duration.seconds(self.random.below(3) * 5)
            let count = DrainCount(self)
            self.drainsLeft += engine === self.server ? self.serverLoops : 1
            engine.beginDrain(deadline: deadline) { count.finished() }
        }
    }

    // @unchecked: one thread.
    final class DrainCount: @unchecked Sendable {
        private unowned let world: SimulatedWorld
        init(_ world: SimulatedWorld) { self.world = world }
        func finished() { self.world.drainsLeft -= 1 }
    }
}
