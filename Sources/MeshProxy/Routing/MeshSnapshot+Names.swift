internal import MeshDNS
package import MeshModel
package import MeshTunnel

extension MeshSnapshot {
    /// As the pod's own question would be answered: short names, the client's namespace and wildcards included.
    package func addresses(of host: String, for pod: EnrolledPod) -> [IPAddress]? {
        guard let name = DNSName(host) else { return nil }
        let names = MeshNames(
            self.state, clusterDomain: self.settings.clusterDomain,
            preferredNamespace: self.settings.preferredNamespace)
        let resolver = MeshNameResolver(clusterDomain: self.settings.clusterDomain)
        let client = DNSClient(
            namespace: pod.namespace, network: self.local(pod)?.workload.network ?? self.settings.network)
        var random = Draws()
        let answers = [false, true].compactMap {
            resolver.answer(name, isV6: $0, for: client, in: names, using: &random)
        }
        return answers.isEmpty ? nil : answers.flatMap(\.addresses)
    }
}
