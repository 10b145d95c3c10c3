/// The type octet of an HTTP/2 frame (RFC 9113 section 6). A type outside the list is legal on the wire and ignored.
package struct HTTP2FrameType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let data = Self(rawValue: 0)
    package static let headers = Self(rawValue: 1)
    package static let priority = Self(rawValue: 2)
    package static let resetStream = Self(rawValue: 3)
    package static let settings = Self(rawValue: 4)
    package static let pushPromise = Self(rawValue: 5)
    package static let ping = Self(rawValue: 6)
    package static let goAway = Self(rawValue: 7)
    package static let windowUpdate = Self(rawValue: 8)
    package static let continuation = Self(rawValue: 9)

    private static let names = [
        "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
        "CONTINUATION",
    ]

    package var description: String {
        Int(self.rawValue) < Self.names.count
            ? Self.names[Int(self.rawValue)] : "frame type \(self.rawValue)"
    }
}

/// The flags octet. Bits that a frame type does not define are ignored when read and zero when written.
package struct HTTP2FrameFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// DATA, HEADERS.
    package static let endStream = Self(rawValue: 0x01)
    /// SETTINGS, PING: the same bit as ``endStream``.
    package static let ack = Self(rawValue: 0x01)
    /// HEADERS, CONTINUATION.
    package static let endHeaders = Self(rawValue: 0x04)
    /// DATA, HEADERS.
    package static let padded = Self(rawValue: 0x08)
    /// HEADERS.
    package static let priority = Self(rawValue: 0x20)
}
