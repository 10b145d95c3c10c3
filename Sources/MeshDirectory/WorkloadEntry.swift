package import MeshIdentity
package import MeshModel

/// A workload as the directory keeps it.
///
/// There may be a hundred thousand, most of which nobody here will ever talk to: what can be said quickly is said anew
/// when it is asked. For this node's own, which every connection asks, it is kept.
package final class WorkloadEntry: Sendable {
    package let workload: Workload
    /// Which of several workloads with one address is meant: a pod before other kinds, a tunnel before none.
    let rank: UInt8
    private let own: Own?

    private final class Own: Sendable {
        let baggage: String
        let peer: PeerAttributes

        init(_ workload: Workload) {
            self.baggage = Baggage(workload).text
            self.peer = PeerAttributes(workload)
        }
    }

    /// - Parameter isLocal: a workload of this node.
    package init(_ workload: Workload, isLocal: Bool = false) {
        self.workload = workload
        self.rank = (workload.uid.isPodUID ? 2 : 0) + (workload.tunnelProtocol == .hbone ? 1 : 0)
        self.own = isLocal ? Own(workload) : nil
    }

    package var identity: WorkloadIdentity { self.workload.identity }
    /// What it says about itself in a `baggage` header.
    package var baggage: String { self.own?.baggage ?? Baggage(self.workload).text }
    package var peer: PeerAttributes { self.own?.peer ?? PeerAttributes(self.workload) }
    package var place: ClientPlace { ClientPlace(self.workload) }

    /// What the node agent announces: the pod's name, namespace and service account.
    struct PodKey: Hashable, Sendable {
        var name, namespace, serviceAccount: String
    }

    var podKey: PodKey {
        PodKey(
            name: self.workload.name, namespace: self.workload.namespace, serviceAccount: self.workload.serviceAccount)
    }
}

extension String {
    /// `<cluster>//Pod/<namespace>/<name>`
    fileprivate var isPodUID: Bool {
        let kind = "//Pod/".utf8
        var rest = self.utf8[...]
        while let slash = rest.firstIndex(of: UInt8(ascii: "/")) {
            rest = rest[slash...]
            if rest.starts(with: kind) { return true }
            rest = rest.dropFirst()
        }
        return false
    }
}
