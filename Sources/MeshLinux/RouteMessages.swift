/// The netlink requests (rtnetlink(7)) for one local default route and one firewall-mark rule, as bytes.
///
/// They let answers come back to a socket that speaks from somebody else's address: packets of a marked connection
/// look into a table in which every address is local.
enum RouteMessages {
    enum Family: UInt8, CaseIterable {
        case v4 = 2  // AF_INET
        case v6 = 10  // AF_INET6
    }
    enum Change {
        case add, remove
    }

    private static let request: UInt16 = 0x1
    private static let acknowledge: UInt16 = 0x4
    private static let createExclusively: UInt16 = 0x200 | 0x400

    /// `ip route add local default dev <interface> table <table> scope host`
    static func localDefault(
        _ change: Change, _ family: Family, table: UInt8, interface: UInt32, sequence: UInt32
    ) -> [UInt8] {
        var body: [UInt8] = [
            family.rawValue, 0, 0, 0,  // destination and source length 0: default; tos
            table, 3, 254, 2,  // protocol boot, scope host, type local
        ]
        body += Self.bytes(0 as UInt32)  // flags
        body += Self.attribute(15, UInt32(table))  // RTA_TABLE
        body += Self.attribute(4, interface)  // RTA_OIF
        return Self.message(type: change == .add ? 24 : 25, change, body, sequence)
    }

    /// `ip rule add fwmark <mark>/<mask> lookup <table> pref <preference>`
    static func markRule(
        _ change: Change, _ family: Family, table: UInt8, mark: UInt32, mask: UInt32, preference: UInt32,
        sequence: UInt32
    ) -> [UInt8] {
        var body: [UInt8] = [
            family.rawValue, 0, 0, 0,
            table, 0, 0, 1,  // action: to table
        ]
        body += Self.bytes(0 as UInt32)  // flags
        body += Self.attribute(6, preference)  // FRA_PRIORITY
        body += Self.attribute(10, mark)  // FRA_FWMARK
        body += Self.attribute(16, mask)  // FRA_FWMASK
        body += Self.attribute(15, UInt32(table))  // FRA_TABLE
        return Self.message(type: change == .add ? 32 : 33, change, body, sequence)
    }

    private static func message(type: UInt16, _ change: Change, _ body: [UInt8], _ sequence: UInt32) -> [UInt8] {
        let flags = Self.request | Self.acknowledge | (change == .add ? Self.createExclusively : 0)
        return Self.bytes(UInt32(16 + body.count)) + Self.bytes(type) + Self.bytes(flags)
            + Self.bytes(sequence) + Self.bytes(0 as UInt32) + body
    }

    private static func attribute(_ type: UInt16, _ value: UInt32) -> [UInt8] {
        Self.bytes(8 as UInt16) + Self.bytes(type) + Self.bytes(value)
    }

    /// Host order: netlink never leaves the machine.
    private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }

    /// The errno (0 for success) of an acknowledgement; nil for any other message.
    static func acknowledgement(in bytes: [UInt8], sequence: UInt32) -> CInt? {
        func number(_ at: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) }
        }
        // nlmsghdr (16 bytes), then the error of struct nlmsgerr; type NLMSG_ERROR is 2.
        guard bytes.count >= 20, bytes[4] == 2, bytes[5] == 0, number(8) == sequence else { return nil }
        return -CInt(bitPattern: number(16))
    }
}
