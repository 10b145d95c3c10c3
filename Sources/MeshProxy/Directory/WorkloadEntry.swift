package import MeshIdentity
package import MeshModel

/// A workload as the directory keeps it: the value, and what every connection would compute again otherwise.
package final class WorkloadEntry: Sendable {
    package let workload: Workload
    package let identity: WorkloadIdentity
    /// What it says about itself in a `baggage` header.
    package let baggage: String
    package let peer: PeerAttributes
    package let place: ClientPlace
    /// Which of several workloads with one address is meant: a pod before other kinds, a tunnel before none.
    let rank: Int

    package init(_ workload: Workload) {
        self.workload = workload
        self.identity = workload.identity
        self.baggage = Baggage(workload).text
        self.peer = PeerAttributes(workload)
        self.place = ClientPlace(workload)
        self.rank = (workload.uid.contains("//Pod/") ? 2 : 0) + (workload.tunnelProtocol == .hbone ? 1 : 0)
    }

    /// What the node agent announces: the pod's name, namespace and service account.
    struct PodKey: Hashable, Sendable {
        var name, namespace, serviceAccount: String
    }

    var podKey: PodKey {
        PodKey(
            name: self.workload.name, namespace: self.workload.namespace, serviceAccount: self.workload.serviceAccount)
    }
}
