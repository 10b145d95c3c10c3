import KubeAPI

/// The names that this mesh goes by: its trust domain, and others that mean the same (MeshConfig `trustDomainAliases`),
/// above all an old one from which workloads still have certificates.
struct TrustDomains: Hashable, Sendable {
    /// In policies, always the mesh's own trust domain, whatever that is called.
    static let pointer = "cluster.local"

    /// The mesh's own first.
    let all: [String]

    init(_ settings: MeshSettings) { self.all = [settings.trustDomain] + settings.trustDomainAliases }

    /// The principals that a policy means by `principal` (`<trust domain>/ns/<namespace>/sa/<account>`, with a star first
    /// or last): the same of every name of the mesh when it names one of them. Others, and what is none, stay as they are.
    func expanded(_ principal: String) -> [String] {
        guard let slash = principal.firstIndex(of: "/") else { return [principal] }
        let (domain, rest) = (String(principal[..<slash]), principal[slash...])
        if domain.hasPrefix("*") {
            let suffix = domain.dropFirst()
            guard self.all.contains(where: { $0.hasSuffix(suffix) }) else { return [principal] }
            return [principal] + self.all.filter { !$0.hasSuffix(suffix) }.map { $0 + rest }
        }
        guard domain == Self.pointer || self.all.contains(domain) else { return [principal] }
        return self.all.map { $0 + rest }
    }

    func expanded(_ values: [JSONValue]) -> [JSONValue] {
        var seen: Set<String> = []
        return values.flatMap { value -> [JSONValue] in
            guard let principal = value.string else { return [value] }
            return self.expanded(principal).filter { seen.insert($0).inserted }.map { .string($0) }
        }
    }
}
