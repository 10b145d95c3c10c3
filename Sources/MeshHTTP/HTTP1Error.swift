/// Why a message of HTTP/1 is refused (RFC 9112): what the sender is told, and a reason for the log.
///
/// Nothing is repaired. Two hops that repair a message differently see two messages, which is how requests are smuggled.
package struct HTTP1Error: Error, Hashable, CustomStringConvertible {
    /// 400, 414, 431, 501 or 505; for a response it is the gateway's own fault and becomes 502.
    package let status: Int
    package let description: String

    package init(_ status: Int = 400, _ description: String) {
        self.status = status
        self.description = description
    }
}

/// Bounds of one message.
package struct HTTP1Limits: Hashable, Sendable {
    /// Request line and fields, with their line ends.
    package var headBytesMax = 64 << 10
    package var targetBytesMax = 16 << 10
    package var methodBytesMax = 32
    package var fieldsMax = 256
    package var trailerBytesMax = 16 << 10
    /// A chunk's size line: the extensions that nobody uses.
    package var chunkLineBytesMax = 256
    /// Chunk extensions of one message, all together.
    package var extensionBytesMax = 4 << 10

    package init() {}
}
