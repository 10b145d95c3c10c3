package import MeshDirectory
package import MeshIdentity
package import MeshModel
package import MeshTunnel

/// What a proxy knows about itself, for routing and admission.
package struct RoutingSettings: Sendable {
    /// The network that this node is on.
    package var network = ""
    /// Ports of our own listeners: a connection to one of them would come back to us.
    package var ownPorts: Set<UInt16> = [15001, 15006, 15008]
    /// Where pods take HBONE.
    package var tunnelPort: UInt16 = 15008
    /// Whether answers carry the destination's `baggage`, and requests' is read.
    package var usesBaggage = true
    /// Whether applications that take PROXY protocol headers are dialled at loopback; else at the pod's address.
    package var localApplicationTunnel = true
    /// For names that applications give us.
    package var clusterDomain = "cluster.local"
    package var preferredNamespace: String?
    /// Told about every dry-run policy that matched a connection.
    package var reportDryRun: @Sendable (AuthorizationPolicy) -> Void = { _ in }
    /// On demand: asks the control plane for a key; returns at once. Nil: everything is told without being asked for.
    package var demand: (@Sendable (String) -> Void)?

    package init() {}
}

/// One immutable picture of the mesh: answers what the tunnel asks.
package final class MeshSnapshot: MeshView {
    package let state: MeshState
    let settings: RoutingSettings
    let flows: FlowTable
    let answered: AnsweredDemands

    package init(
        state: MeshState, settings: RoutingSettings, flows: FlowTable, answered: AnsweredDemands = AnsweredDemands()
    ) {
        self.state = state
        self.settings = settings
        self.flows = flows
        self.answered = answered
    }

    package func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.local(pod).map { Self.identity($0, pod) } }

    func local(_ pod: EnrolledPod) -> WorkloadEntry? {
        self.state.localWorkload(name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount)
    }

    /// Trust domain from the control plane, the rest from the node agent.
    static func identity(_ entry: WorkloadEntry, _ pod: EnrolledPod) -> WorkloadIdentity {
        WorkloadIdentity(
            trustDomain: entry.workload.trustDomain, namespace: pod.namespace, serviceAccount: pod.serviceAccount)
    }

    static func unknownPod(_ pod: EnrolledPod) -> RefusalReason {
        RefusalReason(
            .connect,
            "failed to fetch information about local workload: \(pod.namespace)/\(pod.name) (service account "
                + "\(pod.serviceAccount)) is not known on this node; is the control plane connected?", kind: .unknownPod
        )
    }
}
