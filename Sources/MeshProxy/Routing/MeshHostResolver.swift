internal import MeshDNS
internal import MeshModel
package import MeshNameService
package import MeshTunnel

/// Resolves the host names of workloads with the node's name service, which knows how long an answer holds.
///
/// A name that the resolvers do not know, or when none of them answers, is left to the system's own resolver: that one
/// also reads `/etc/hosts` and tries search domains. Its answers have no lifetime.
package final class MeshHostResolver: HostResolver {
    private let forwarder: DNSForwarder
    private let types: [DNSRecordType]
    private let system: any HostResolver

    package init(forwarder: DNSForwarder, isIPv6Enabled: Bool, system: any HostResolver) {
        self.forwarder = forwarder
        self.types = isIPv6Enabled ? [.a, .aaaa] : [.a]
        self.system = system
    }

    /// Nobody waits for the task: it ends by itself within ``DNSLimits/upstreamTimeout``, and the number of questions is
    /// bounded by the forwarder's.
    package func resolve(_ host: String, completion: @escaping @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void)
    {
        Task {
            switch await self.ask(host) {
            case .success(let found): completion(.success(found))
            case .failure(let reason):
                self.system.resolve(host) { result in
                    completion(
                        result.mapError { HostUnresolved("\(reason); the system's resolver: \($0)") })
                }
            }
        }
    }

    private func ask(_ host: String) async -> Result<ResolvedHost, HostUnresolved> {
        let answers = await withTaskGroup(of: Result<DNSAddresses, DNSLookupFailure>.self) { group in
            for type in self.types {
                group.addTask {
                    do throws(DNSLookupFailure) {
                        return .success(try await self.forwarder.resolve(host, type))
                    } catch {
                        return .failure(error)
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        var failure: DNSLookupFailure?
        var found: [DNSAddresses] = []
        for answer in answers {
            switch answer {
            case .success(let addresses): if !addresses.addresses.isEmpty { found.append(addresses) }
            case .failure(let error): failure = error
            }
        }
        // One family is enough, whatever became of the question for the other.
        guard let seconds = found.map(\.ttlSeconds).min() else {
            return .failure(HostUnresolved(failure.map { "\($0)" } ?? "no resolver knows an address of \(host)"))
        }
        return .success(ResolvedHost(addresses: found.flatMap(\.addresses), lifetime: .seconds(seconds)))
    }
}
