internal import NIOSSL
internal import Synchronization

/// The certificates of a root file as they were when they could last be used. A file that is being replaced, or that an
/// operator spoiled, does not end the conversation with the control plane: the old ones go on until it can be read again.
final class RootFile: Sendable {
    private let lastGood = Mutex<[UInt8]?>(nil)

    /// - Parameter content: what the file holds now.
    /// - Returns: the roots to trust, and why they are older ones; nil when there have never been any.
    func roots(_ content: Result<[UInt8], ReadFailure>) -> (pem: [UInt8], trouble: String?)? {
        switch content {
        case .success(let bytes) where Self.isUsable(bytes):
            self.lastGood.withLock { $0 = bytes }
            return (bytes, nil)
        case .success: return self.kept("no certificates in it that can be read")
        case .failure(let failure): return self.kept(failure.reason)
        }
    }

    private func kept(_ trouble: String) -> (pem: [UInt8], trouble: String?)? {
        self.lastGood.withLock { $0 }.map { ($0, trouble) }
    }

    private static func isUsable(_ pem: [UInt8]) -> Bool {
        (try? NIOSSLCertificate.fromPEMBytes(pem)).map { !$0.isEmpty } ?? false
    }

    struct ReadFailure: Error { let reason: String }
}
