/// A stream identifier: 31 bits; 0 is the connection itself, odd ones were opened by the client
/// (RFC 9113 section 5.1.1).
package struct HTTP2StreamID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32

    /// - Parameter rawValue: 0 to 2^31-1.
    @inline(__always)
    package init(_ rawValue: UInt32) {
        precondition(rawValue <= Self.largest, "a stream identifier has 31 bits")
        self.rawValue = rawValue
    }

    package static let largest: UInt32 = 0x7fff_ffff
    package static let connection = Self(0)

    package var isConnection: Bool { self.rawValue == 0 }
    package var isClientInitiated: Bool { self.rawValue & 1 == 1 }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    package var description: String { String(self.rawValue) }
}

/// Hands out a client's stream identifiers: 1, 3, 5 ... They are never reused, so a connection that ran out must be
/// replaced by a new one.
package struct HTTP2StreamIDAllocator: Sendable {
    private var nextRaw: UInt32

    /// - Parameter first: an odd identifier; anything but 1 is for tests.
    package init(first: HTTP2StreamID = HTTP2StreamID(1)) {
        precondition(first.isClientInitiated)
        self.nextRaw = first.rawValue
    }

    /// How many identifiers are left; a pool drains a connection before this is zero.
    package var remaining: Int {
        self.nextRaw > HTTP2StreamID.largest ? 0 : Int((HTTP2StreamID.largest - self.nextRaw) / 2) + 1
    }

    /// nil when the identifiers are used up.
    package mutating func next() -> HTTP2StreamID? {
        guard self.nextRaw <= HTTP2StreamID.largest else { return nil }
        defer { self.nextRaw += 2 }
        return HTTP2StreamID(self.nextRaw)
    }
}
