/// The nine octets before every frame's payload (RFC 9113 section 4.1).
package struct HTTP2FrameHeader: Hashable, Sendable {
    package static let byteCount = 9
    /// The largest length that 24 bits can say.
    package static let lengthMax = 0xff_ffff

    /// Octets of payload, 0 to ``lengthMax``.
    package var length: Int
    package var type: HTTP2FrameType
    package var flags: HTTP2FrameFlags
    package var stream: HTTP2StreamID

    package init(length: Int, type: HTTP2FrameType, flags: HTTP2FrameFlags = [], stream: HTTP2StreamID) {
        self.length = length
        self.type = type
        self.flags = flags
        self.stream = stream
    }

    /// Reads nine octets; the reserved bit of the stream identifier is ignored.
    ///
    /// SAFETY: `bytes` must point at ``byteCount`` readable octets.
    @inline(__always)
    package init(parsing bytes: UnsafeRawPointer) {
        let first = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
        self.length = Int(first >> 8)
        self.type = HTTP2FrameType(rawValue: UInt8(truncatingIfNeeded: first))
        self.flags = HTTP2FrameFlags(rawValue: bytes.load(fromByteOffset: 4, as: UInt8.self))
        let id = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 5, as: UInt32.self))
        self.stream = HTTP2StreamID(id & 0x7fff_ffff)
    }

    /// Writes nine octets.
    ///
    /// SAFETY: `bytes` must point at ``byteCount`` writable octets.
    @inline(__always)
    package func write(to bytes: UnsafeMutableRawPointer) {
        precondition(self.length >= 0 && self.length <= Self.lengthMax, "a frame of \(self.length) octets")
        let first = UInt32(self.length) << 8 | UInt32(self.type.rawValue)
        bytes.storeBytes(of: first.bigEndian, as: UInt32.self)
        bytes.storeBytes(of: self.flags.rawValue, toByteOffset: 4, as: UInt8.self)
        bytes.storeBytes(of: self.stream.rawValue.bigEndian, toByteOffset: 5, as: UInt32.self)
    }
}
