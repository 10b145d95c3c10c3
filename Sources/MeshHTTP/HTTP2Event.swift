/// What the peer said, in the order it said it. Made by ``HTTP2FrameReader``.
///
/// Not `Sendable`: a ``data(stream:bytes:flowControlled:endStream:)`` payload points into the reader's input and is
/// good only until that buffer is reused.
package enum HTTP2Event {
    /// A piece of a DATA frame; a frame cut by the network arrives in several.
    ///
    /// `flowControlled` counts what the piece takes from both windows: payload and padding. Over the pieces of a frame
    /// it adds up to the frame's length. Padding comes as a last piece with no bytes. `endStream` is on the last piece.
    /// `flowControlled` is 0 only for a frame without payload: the one kind that costs the sender nothing, so count
    /// those that do not end the stream with ``HTTP2FloodGuard``.
    case data(stream: HTTP2StreamID, bytes: UnsafeRawBufferPointer, flowControlled: Int, endStream: Bool)
    /// A complete header block, still compressed. Every one must go through ``HPACKDecoder``, also those of streams
    /// that are refused, or the tables of the two sides diverge.
    case headers(stream: HTTP2StreamID, block: [UInt8], endStream: Bool)
    case reset(stream: HTTP2StreamID, code: HTTP2ErrorCode)
    /// To be applied with ``HTTP2Settings/apply(_:from:)`` and acknowledged, in this order.
    case settings([HTTP2Setting])
    case settingsAck
    case ping(opaque: UInt64, ack: Bool)
    /// `debug` is cut to ``HTTP2FrameReader/goAwayDebugBytesMax`` octets.
    case goAway(lastStream: HTTP2StreamID, code: HTTP2ErrorCode, debug: [UInt8])
    /// `increment` is 1 to 2^31-1; the stream is 0 for the connection.
    case windowUpdate(stream: HTTP2StreamID, increment: Int)
    /// PRIORITY has no meaning any more (RFC 9113 section 5.3.2).
    case priorityIgnored(stream: HTTP2StreamID)
    case unknownIgnored(HTTP2FrameType)
    /// The frame was wrong in a way that only costs its stream: answer with RST_STREAM.
    case streamError(HTTP2StreamError)
}
