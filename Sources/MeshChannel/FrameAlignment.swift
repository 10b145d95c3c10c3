package import NIOCore

/// Hands the bytes of an HTTP/2 connection on in whole frames, as they came but one by one.
///
/// For the sake of swift-nio-http2's decoder, which keeps what it has not decoded yet in one buffer: each frame header
/// that is cut in two by the network makes that buffer grow, never shrink, and the next read copy all of it. After a
/// first response of 33 MB it had grown to 32 MB, held twice, and each later response of some hundred bytes cost a copy
/// of 32 MB (53 ms). With a frame at a time it stays at the size of a frame.
///
/// Sits between TLS and the decoder of a client's connection: what arrives there are frames from the first byte on
/// (RFC 9113, 3.4; the preface of magic bytes is a client's).
package final class FrameAlignment: ChannelInboundHandler {
    package typealias InboundIn = ByteBuffer
    package typealias InboundOut = ByteBuffer

    static let headerBytes = 9
    /// What a peer may send unless it was told another `SETTINGS_MAX_FRAME_SIZE` (RFC 9113, 6.5.2); our transport tells
    /// none. Longer frames end the connection in the decoder, which is why nothing is held back after one.
    static let payloadBytesMax = 1 << 14

    /// The beginning of a frame whose end has not come yet. Copied, so that it does not keep a whole read in memory.
    private var begun = ByteBuffer()
    private var isAligned = true

    package init() {}

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        while self.isAligned, bytes.readableBytes > 0 {
            if self.begun.readableBytes == 0, let whole = self.frameBytes(of: bytes), whole <= bytes.readableBytes {
                context.fireChannelRead(self.wrapInboundOut(bytes.readSlice(length: whole)!))
                continue
            }
            // The header first, then what it announces.
            let wanted = self.frameBytes(of: self.begun) ?? Self.headerBytes
            var part = bytes.readSlice(length: min(wanted - self.begun.readableBytes, bytes.readableBytes))!
            self.begun.reserveCapacity(wanted)
            self.begun.writeBuffer(&part)
            if self.begun.readableBytes == self.frameBytes(of: self.begun) { self.passBegun(context) }
        }
        if !self.isAligned {
            self.begun.writeBuffer(&bytes)
            self.passBegun(context)
        }
    }

    /// The decoder shall see what there was, and judge it.
    package func channelInactive(context: ChannelHandlerContext) {
        self.passBegun(context)
        context.fireChannelInactive()
    }

    private func passBegun(_ context: ChannelHandlerContext) {
        guard self.begun.readableBytes > 0 else { return }
        let frame = self.begun
        self.begun = ByteBuffer()
        context.fireChannelRead(self.wrapInboundOut(frame))
    }

    /// Header and payload; nil when not all of the header is there. A longer frame than allowed ends the alignment.
    private func frameBytes(of bytes: ByteBuffer) -> Int? {
        guard bytes.readableBytes >= Self.headerBytes,
            let high = bytes.getInteger(at: bytes.readerIndex, as: UInt16.self),
            let low = bytes.getInteger(at: bytes.readerIndex + 2, as: UInt8.self)
        else { return nil }
        let payload = Int(high) << 8 | Int(low)
        guard payload <= Self.payloadBytesMax else {
            self.isAligned = false
            return nil
        }
        return Self.headerBytes + payload
    }
}
