internal import MeshDNS
internal import NIOCore

/// DNS over TCP: two bytes of length before each message (RFC 1035, 4.2.2). Holds at most one message that is not
/// complete, and what came behind the last one that was taken.
struct DNSFrames {
    private var pending = ByteBuffer()

    mutating func append(_ more: ByteBuffer) {
        var more = more
        if self.pending.readableBytes == 0 {
            self.pending = more
        } else {
            self.pending.discardReadBytes()
            self.pending.writeBuffer(&more)
        }
    }

    /// The next complete message, or nil; an empty one is returned as it is.
    mutating func next() -> [UInt8]? {
        guard let count = self.pending.getInteger(at: self.pending.readerIndex, as: UInt16.self),
            self.pending.readableBytes >= 2 + Int(count)
        else { return nil }
        self.pending.moveReaderIndex(forwardBy: 2)
        return self.pending.readBytes(length: Int(count))
    }

    /// - Parameter message: at most ``DNSReader/messageBytesMax`` bytes.
    static func framed(_ message: [UInt8], _ allocator: ByteBufferAllocator) -> ByteBuffer {
        precondition(message.count <= DNSReader.messageBytesMax)
        var buffer = allocator.buffer(capacity: message.count + 2)
        buffer.writeInteger(UInt16(message.count))
        buffer.writeBytes(message)
        return buffer
    }
}
