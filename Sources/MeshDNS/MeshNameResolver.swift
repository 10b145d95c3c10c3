internal import MeshModel

/// Finds out which service a name means, as a pod writes it: `web`, `web.shop`, `web.shop.svc`, the full name, and all
/// of them again with a search domain behind, because a pod's resolver tries `web.shop` first as
/// `web.shop.<namespace>.svc.<cluster domain>`.
package struct MeshNameResolver: Sendable {
    /// Lower case, without dots around: `cluster.local`.
    private let domain: String
    private let domainLabels: Int
    private let isIPv6Enabled: Bool
    /// Search domains besides the cluster's, each with the number of its labels.
    private let otherSearches: [(domain: String, labels: Int)]

    /// - Parameter searchDomains: of the client's resolver, in lower case and without dots around. Below those that are
    ///   the cluster's every form of a name is tried anyway; below the others only the whole name, because there
    ///   `web.corp.example` is somebody's, whatever service is called `web`.
    package init(clusterDomain: String, isIPv6Enabled: Bool = true, searchDomains: [String] = []) {
        self.domain = clusterDomain.lowercased().split(separator: ".").joined(separator: ".")
        self.domainLabels = self.domain.split(separator: ".").count
        self.isIPv6Enabled = isIPv6Enabled
        let domain = self.domain
        self.otherSearches = searchDomains.filter { $0 != domain && !$0.hasSuffix(".\(domain)") }.map {
            ($0, $0.split(separator: ".").count)
        }
    }

    /// - Returns: nil when the mesh does not know the name; the question is for a resolver then.
    package func answer(
        _ name: DNSName, isV6: Bool, for client: DNSClient, in table: some MeshNameTable,
        using random: inout some RandomNumberGenerator
    ) -> MeshAnswer? {
        guard let hostname = name.hostname, !hostname.isEmpty else { return nil }
        let labels = name.labels.count
        let isOurs = hostname == self.domain || hostname.hasSuffix("." + self.domain)
        for candidate in self.candidates(hostname, labels, client) {
            guard let (service, isWildcard) = self.find(candidate.hostname, client, isV6, table) else { continue }
            var answer = MeshAnswer(
                addresses: [], zoneLabels: isOurs ? self.domainLabels : labels, hostname: service.hostname)
            if isV6 ? !(service.isV6 && self.isIPv6Enabled) : !service.isV4 {
                answer.isFamilyExcluded = true
                return answer
            }
            // A wildcard stands for the name as it was asked, search domain and all.
            if let kept = candidate.keptLabels, !isWildcard { answer.alias = name.prefix(labels: kept) }
            answer.addresses = Array(service.addresses.shuffled(using: &random).prefix(MeshAnswer.addressesMax))
            return answer
        }
        return nil
    }

    /// The exact name, then wildcards from the closest to the widest.
    private func find(
        _ hostname: String, _ client: DNSClient, _ isV6: Bool, _ table: some MeshNameTable
    ) -> (service: NamedService, isWildcard: Bool)? {
        if let found = table.service(hostname: hostname, for: client, isV6: isV6) { return (found, false) }
        let counts = table.wildcardLabelCounts
        if counts.isEmpty { return nil }
        let labels = hostname.split(separator: ".")
        for count in counts.reversed() where count >= 2 && count <= labels.count {
            let wildcard = "*." + labels.suffix(count - 1).joined(separator: ".")
            if wildcard != hostname, let found = table.service(hostname: wildcard, for: client, isV6: isV6) {
                return (found, true)
            }
        }
        return nil
    }

    private struct Candidate {
        var hostname: String
        /// How many labels of the question are left, where a search domain was cut off.
        var keptLabels: Int?
    }

    /// In the order in which they count.
    private func candidates(_ hostname: String, _ labels: Int, _ client: DNSClient) -> [Candidate] {
        let service = "svc.\(self.domain)"
        let namespace = "\(client.namespace.lowercased()).\(service)"
        var all: [Candidate] = []
        func add(_ hostname: String, _ kept: Int?) {
            if !all.contains(where: { $0.hostname == hostname }) {
                all.append(Candidate(hostname: hostname, keptLabels: kept))
            }
        }
        func expand(_ hostname: String, _ labels: Int, _ kept: Int?) {
            let endsInService = hostname.hasSuffix(".svc")
            switch labels {
            case 1: add("\(hostname).\(namespace)", kept)
            case 2:
                add("\(hostname).\(service)", kept)
                add("\(hostname).\(namespace)", kept)
            case 3:
                if endsInService { add("\(hostname).\(self.domain)", kept) }
                add("\(hostname).\(service)", kept)
            case 4 where endsInService: add("\(hostname).\(self.domain)", kept)
            default: break
            }
        }
        add(hostname, nil)
        expand(hostname, labels, nil)
        for (search, searchLabels) in [
            (namespace, self.domainLabels + 2), (service, self.domainLabels + 1), (self.domain, self.domainLabels),
        ] where labels > searchLabels && hostname.hasSuffix(".\(search)") {
            let kept = String(hostname.dropLast(search.utf8.count + 1))
            add(kept, labels - searchLabels)
            expand(kept, labels - searchLabels, labels - searchLabels)
        }
        for (search, searchLabels) in self.otherSearches
        where labels > searchLabels + 1 && hostname.hasSuffix(".\(search)") {
            add(String(hostname.dropLast(search.utf8.count + 1)), labels - searchLabels)
        }
        return all
    }
}
