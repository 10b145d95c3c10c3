internal import CMeshLinux
internal import Glibc

/// The routes and policy rules that bring answers back to a local socket with a foreign address: a table with a local
/// default route on `lo`, looked up by packets that carry a mark. Acts on the namespace of the calling thread.
public struct ReplyRouting: Hashable, Sendable {
    public var table: UInt8
    public var mark, mask, preference: UInt32
    /// Also IPv6. A kernel or an interface without IPv6 is tolerated: there is nothing to route then.
    public var isIPv6Enabled: Bool

    public init(table: UInt8, mark: UInt32, mask: UInt32, preference: UInt32, isIPv6Enabled: Bool) {
        self.table = table
        self.mark = mark
        self.mask = mask
        self.preference = preference
        self.isIPv6Enabled = isIPv6Enabled
    }

    /// What is there already stays; calling it again is how a missing piece is repaired.
    /// - Returns: how many of the pieces were missing.
    @discardableResult
    public func install() throws(SystemError) -> Int { try self.change(.add, tolerating: [EEXIST]) }

    /// What is missing already is fine.
    public func remove() throws(SystemError) { try self.change(.remove, tolerating: [ENOENT, ESRCH]) }

    /// What an IPv6 request answers where there is no IPv6: `lo/disable_ipv6` gives EACCES ("IPv6 is disabled on nexthop
    /// device") when a route is added and ENODEV or ESRCH when one is removed, a kernel without it the others.
    private static let withoutIPv6: [CInt] = [EACCES, EAFNOSUPPORT, EOPNOTSUPP, ENODEV, ESRCH]

    @discardableResult
    private func change(_ change: RouteMessages.Change, tolerating tolerated: [CInt]) throws(SystemError) -> Int {
        let socket = try checked(cmx_route_socket(), "open a netlink socket")
        defer { close(socket) }
        let loopback = if_nametoindex("lo")
        if loopback == 0 { throw SystemError("find the interface lo", code: errno) }
        var sequence: UInt32 = 0
        var done = 0
        for family in RouteMessages.Family.allCases where family == .v4 || self.isIPv6Enabled {
            let requests: [(String, (UInt32) -> [UInt8])] = [
                (
                    "local default route in table \(self.table)",
                    {
                        RouteMessages.localDefault(
                            change, family, table: self.table, interface: loopback, sequence: $0)
                    }
                ),
                (
                    "rule for mark \(self.mark)",
                    {
                        RouteMessages.markRule(
                            change, family, table: self.table, mark: self.mark, mask: self.mask,
                            preference: self.preference, sequence: $0)
                    }
                ),
            ]
            for (name, request) in requests {
                sequence += 1
                let failed = try Self.ask(socket, request(sequence), sequence, name)
                if failed == 0 {
                    done += 1
                } else if !tolerated.contains(failed), family == .v4 || !Self.withoutIPv6.contains(failed) {
                    throw SystemError("\(change) \(family) \(name)", code: failed)
                }
            }
        }
        return done
    }

    private static func ask(
        _ socket: CInt, _ request: [UInt8], _ sequence: UInt32, _ name: String
    ) throws(SystemError) -> CInt {
        // SAFETY: both buffers live for the calls; the kernel writes at most the given count.
        let sent = request.withUnsafeBytes { send(socket, $0.baseAddress, $0.count, 0) }
        if sent < 0 { throw SystemError("ask for the \(name)", code: errno) }
        while true {
            if try checked(cmx_wait(socket, Int16(POLLIN), -1, 5000), "wait for netlink") == 0 {
                throw SystemError("ask for the \(name)", code: ETIMEDOUT)
            }
            var answer = [UInt8](repeating: 0, count: 4096)
            let count = answer.withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
            if count < 0 {
                if errno == EINTR || errno == EAGAIN { continue }
                throw SystemError("read the answer about the \(name)", code: errno)
            }
            answer.removeLast(answer.count - count)
            if let verdict = RouteMessages.acknowledgement(in: answer, sequence: sequence) { return verdict }
        }
    }
}
