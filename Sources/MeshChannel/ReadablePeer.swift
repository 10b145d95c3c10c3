package import GRPCCore

extension ServerContext {
    /// Who calls, for logs: as ``GRPCCore/ServerContext/remotePeer``, but an IPv4 caller of a port that takes both
    /// families is shown as what it is.
    package var readablePeer: String { readable(peer: self.remotePeer) }
}

/// `ipv4:10.1.0.9:4711` for `ipv6:[::ffff:10.1.0.9]:4711` (RFC 4291, 2.5.5.2); anything else as it is.
package func readable(peer: String) -> String {
    let mapped = "ipv6:[::ffff:"
    guard peer.hasPrefix(mapped), let end = peer.lastIndex(of: "]") else { return peer }
    let address = peer.dropFirst(mapped.count)[..<end]
    return address.contains(".") ? "ipv4:\(address)\(peer[end...].dropFirst())" : peer
}
