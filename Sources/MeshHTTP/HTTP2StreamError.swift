/// Why one stream must be reset while the connection lives on (RFC 9113 section 5.4.2).
package struct HTTP2StreamError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        case zeroWindowIncrement
        /// The send window of the stream would pass 2^31-1 octets.
        case windowOverflow
        /// The peer sent more than the stream's window allowed.
        case windowExceeded
        case wrongPriorityLength(Int)
        case malformed(HTTP2MalformedMessage)
        case streamClosed
        case headersTooLarge(bytesMax: Int)
    }

    package let stream: HTTP2StreamID
    package let reason: Reason

    package init(_ stream: HTTP2StreamID, _ reason: Reason) {
        self.stream = stream
        self.reason = reason
    }

    /// What RST_STREAM says.
    package var code: HTTP2ErrorCode {
        switch self.reason {
        case .zeroWindowIncrement, .malformed: .protocolError
        case .windowOverflow, .windowExceeded: .flowControlError
        case .wrongPriorityLength: .frameSizeError
        case .streamClosed: .streamClosed
        case .headersTooLarge: .enhanceYourCalm
        }
    }

    package var description: String { "stream \(self.stream): \(self.code): \(self.text)" }

    private var text: String {
        switch self.reason {
        case .zeroWindowIncrement: "WINDOW_UPDATE of zero"
        case .windowOverflow: "the flow-control window would pass 2147483647 octets"
        case .windowExceeded: "the peer sent more than the flow-control window allows"
        case .wrongPriorityLength(let bytes): "PRIORITY with \(bytes) octets instead of 5"
        case .malformed(let message): "\(message)"
        case .streamClosed: "a frame after the peer ended the stream"
        case .headersTooLarge(let max): "a header list larger than \(max) octets"
        }
    }
}
