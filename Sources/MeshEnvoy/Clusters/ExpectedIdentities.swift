package import MeshIdentity

/// Who may answer at an endpoint: the workload itself, and whom its service names besides (`subjectAltNames`).
package struct ExpectedIdentities: Hashable, Sendable {
    /// SPIFFE URIs, sorted.
    package let uris: [String]

    package init(_ identity: WorkloadIdentity, others: [String] = []) {
        self.uris = Set([identity.description] + others.filter { (try? WorkloadIdentity(spiffe: $0)) != nil }).sorted()
    }

    /// Of the listener that opens tunnels to them, and of its cluster.
    package var listener: String { "\(EnvoyNames.originate)|\(self.uris.joined(separator: ","))" }
}
