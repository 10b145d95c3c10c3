internal import MeshDirectory
internal import MeshExchange
internal import MeshIdentity
internal import MeshModel

/// What the mesh knows about the two ends of an exchange and its service, in the words of logs and metrics.
struct ExchangeFacts: Hashable, Sendable {
    var source: PeerAttributes?
    var destination: PeerAttributes?
    var service: ServiceAttributes?
    /// Proven, or else the one that the endpoint would have to prove.
    var destinationIdentity: WorkloadIdentity?

    /// - Parameter network: where the waypoint is, which is where its peers' addresses are.
    init(_ ends: borrowing ExchangeEnds, in state: MeshState, network: String) {
        self.source = state.workload(at: NetworkAddress(network: network, address: ends.client.address))
            .flatMap { client in
                // A gateway or another waypoint speaks for itself only: its name must fit what it has proven.
                ends.clientIdentity.map { $0 == client.identity } ?? true ? client.peer : nil
            }
        let endpoint = ends.endpoint.flatMap { state.workload(uid: $0) }
        self.destination = endpoint?.peer
        self.destinationIdentity = ends.upstreamIdentity ?? endpoint?.identity
        self.service = (ends.backend ?? ends.service).flatMap { state.service($0) }
            .map { ServiceAttributes($0.service) }
    }

    /// For metrics: a proven source says at least its namespace.
    func sourceNamespace(_ proven: WorkloadIdentity?) -> String? { self.source?.namespace ?? proven?.namespace }
}
