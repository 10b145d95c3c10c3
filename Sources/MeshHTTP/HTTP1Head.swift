/// The first line of a message.
package enum HTTP1StartLine: Hashable, Sendable {
    /// `target` as the client wrote it: origin form, absolute form, authority or `*`.
    case request(method: String, target: String)
    case response(status: Int)
}

/// How the end of a message's body is found (RFC 9112, 6.3).
package enum HTTP1Framing: Hashable, Sendable {
    case none
    case length(UInt64)
    case chunked
    /// Responses only.
    case untilClose
    /// After a CONNECT that was accepted, or a switch of protocols: what follows is not HTTP.
    case tunnel
}

/// A message up to its body.
package struct HTTP1Head: Sendable {
    package let start: HTTP1StartLine
    /// HTTP/1.0 has no chunks and closes unless it says otherwise.
    package let isVersion10: Bool
    /// Names in lower case, values without the space around them.
    package let fields: HTTP2HeaderList
    package let framing: HTTP1Framing
    /// What the sender said about the connection after this message.
    package let keepsAlive: Bool
    /// The protocol that is asked for, or agreed on, with `Connection: upgrade`.
    package let upgrade: String?
    /// `Expect: 100-continue`.
    package let expectsContinue: Bool
}

/// What comes out of a connection, in order.
package enum HTTP1Event {
    case head(HTTP1Head)
    /// Borrowed from the input.
    case body(UnsafeRawBufferPointer)
    /// The message is complete. Trailers are empty nearly always.
    case end(trailers: HTTP2HeaderList)
}
