import Foundation
import Synchronization

/// Gives the bearer token for each request. A token file is read again after ``maxAge``, because the kubelet
/// replaces projected tokens while we run.
final class CredentialReader: Sendable {
    static let maxAge = Duration.seconds(30)

    private let credential: KubeConfiguration.Credential
    private let cached = Mutex<(token: String, readAt: ContinuousClock.Instant)?>(nil)

    init(_ credential: KubeConfiguration.Credential) { self.credential = credential }

    /// - Returns: nil when no token is to be sent.
    func token() throws -> String? {
        switch self.credential {
        case .none, .clientCertificate: return nil
        case .token(let token): return token
        case .tokenFile(let path):
            let now = ContinuousClock.now
            if let entry = self.cached.withLock({ $0 }), now - entry.readAt < Self.maxAge { return entry.token }
            let text: String
            do {
                text = try String(contentsOfFile: path, encoding: .utf8)
            } catch {
                throw KubeConnectionError("cannot read the token file \(path): \(error.localizedDescription)")
            }
            let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
            guard !token.isEmpty else { throw KubeConnectionError("the token file \(path) is empty") }
            self.cached.withLock { $0 = (token, now) }
            return token
        }
    }
}
