internal import MeshModel

/// How often one outbound connection was tried, and where. Performs no I/O.
///
/// Trying again is safe until the peer has answered CONNECT: not one byte of the application has left before.
struct DialAttempts: Hashable {
    let attemptsMax: Int
    private(set) var failed = 0
    /// Endpoints that are not to be chosen again.
    private(set) var excluded: [IPAddress] = []

    init(attemptsMax: Int) { self.attemptsMax = max(1, attemptsMax) }

    /// An attempt failed. True when there may be another one.
    /// - Parameter isStale: the tunnel had worked before and closed under us; its endpoint may be chosen again.
    mutating func failed(at peer: IPAddress, _ error: TunnelError, isStale: Bool) -> Bool {
        self.failed += 1
        if !isStale, !self.excluded.contains(peer) { self.excluded.append(peer) }
        return error.allowsAnotherEndpoint && self.failed < self.attemptsMax
    }
}
