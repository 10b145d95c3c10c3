import Crypto
import KubeAPI
package import KubeClient
package import MeshChannel
import Synchronization

/// Asks the API server whose token a caller holds (TokenReview). Good answers are remembered for a short while, so
/// that a reconnecting mesh does not become a storm of reviews; refusals never are.
package final class TokenReviewAuthenticator: CallerAuthenticator {
    /// A token that is revoked is believed this long at most.
    static let believed = Duration.seconds(30)
    static let cacheMax = 10_000
    /// A bound token takes about 1 200 bytes.
    static let tokenBytesMax = 16 << 10

    private struct Entry {
        var caller: AuthenticatedCaller
        var until: ContinuousClock.Instant
    }
    private let cluster: any KubeCluster
    private let audiences: [String]
    private let cache = Mutex<[SHA256Digest: Entry]>([:])

    package init(_ cluster: any KubeCluster, audiences: [String]) {
        self.cluster = cluster
        self.audiences = audiences
    }

    package var wanted: String {
        "\"authorization: Bearer <token>\" with a valid service account token of this cluster for audience "
            + self.audiences.joined(separator: " or ")
    }

    package func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller {
        guard !token.isEmpty, token.utf8.count <= Self.tokenBytesMax else {
            throw AuthenticationFailure("the token has \(token.utf8.count) bytes")
        }
        // Keyed by hash: a memory dump of ours gives nobody's token away.
        let digest = SHA256.hash(data: Array(token.utf8))
        let now = ContinuousClock.now
        if let entry = self.cache.withLock({ $0[digest] }), entry.until > now { return entry.caller }
        let review: KubeObject
        do {
            review = try await self.cluster.create(
                .tokenReviews,
                KubeObject([
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                    "spec": ["token": .string(token), "audiences": JSONValue(self.audiences)],
                ]))
        } catch {
            throw AuthenticationFailure("the API server did not review the token: \(error)")
        }
        let caller = try Self.caller(review.status, audiences: self.audiences)
        self.cache.withLock { cache in
            if cache.count >= Self.cacheMax { cache = cache.filter { $0.value.until > now } }
            if cache.count >= Self.cacheMax { cache.removeAll() }
            cache[digest] = Entry(caller: caller, until: now + Self.believed)
        }
        return caller
    }

    static func caller(
        _ status: JSONValue, audiences: [String]
    ) throws(AuthenticationFailure) -> AuthenticatedCaller {
        guard status["authenticated"]?.bool == true else {
            throw AuthenticationFailure(
                "the token is not valid: \(status["error"]?.string ?? "the API server gave no reason")")
        }
        let granted = status["audiences"]?.array?.compactMap(\.string) ?? []
        guard granted.contains(where: audiences.contains) else {
            throw AuthenticationFailure("the token is for \(granted), wanted one of \(audiences)")
        }
        let user = status["user"] ?? [:]
        guard user["groups"]?.array?.contains("system:serviceaccounts") == true else {
            throw AuthenticationFailure("\(user["username"]?.string ?? "the user") is no service account")
        }
        let parts = (user["username"]?.string ?? "").split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "system", parts[1] == "serviceaccount", !parts[2].isEmpty,
            !parts[3].isEmpty
        else {
            throw AuthenticationFailure("\(user["username"]?.string ?? "") is no name of a service account")
        }
        func extra(_ name: String) -> String? { user.at("extra", "authentication.kubernetes.io/\(name)")?[0]?.string }
        var caller = AuthenticatedCaller(namespace: String(parts[2]), serviceAccount: String(parts[3]))
        if let name = extra("pod-name"), let uid = extra("pod-uid") { caller.pod = .init(name: name, uid: uid) }
        return caller
    }
}
