/// Why an HTTP/2 connection must end: the peer broke a rule that concerns every stream (RFC 9113 section 5.4.1).
/// The caller sends GOAWAY with ``code`` and closes.
package enum HTTP2ConnectionError: Error, Hashable, Sendable {
    /// The client's first octets are not the HTTP/2 preface; `at` is the first wrong one.
    case notHTTP2(at: Int)
    case firstFrameNotSettings(HTTP2FrameType)
    case frameTooLarge(HTTP2FrameType, bytes: Int, bytesMax: Int)
    case wrongLength(HTTP2FrameType, bytes: Int)
    case wrongStream(HTTP2FrameType, HTTP2StreamID)
    /// A frame of a message on a stream that both sides have ended.
    case closedStream(HTTP2FrameType, HTTP2StreamID)
    case paddingTooLong(HTTP2FrameType, HTTP2StreamID)
    case pushPromise
    /// Another frame, or one of another stream, came before the header block was complete.
    case headerBlockInterrupted(HTTP2StreamID, by: HTTP2FrameType)
    case continuationWithoutHeaders(HTTP2StreamID)
    case headerBlockTooLarge(HTTP2StreamID, bytesMax: Int)
    case tooManyContinuations(HTTP2StreamID, framesMax: Int)
    case tooManySettings(settingsMax: Int)
    case badSetting(HTTP2Setting)
    case zeroWindowIncrement
    /// A window of the connection, or every stream's through SETTINGS, would pass 2^31-1 octets.
    case windowOverflow
    /// The peer sent more than our connection window allowed.
    case windowExceeded
    case compression(HPACKError)
    case flood(HTTP2FloodGuard.Kind, count: Int, seconds: Int)

    /// What GOAWAY says.
    package var code: HTTP2ErrorCode {
        switch self {
        case .notHTTP2, .firstFrameNotSettings, .wrongStream, .paddingTooLong, .pushPromise,
            .headerBlockInterrupted, .continuationWithoutHeaders, .zeroWindowIncrement:
            .protocolError
        case .closedStream: .streamClosed
        case .frameTooLarge, .wrongLength: .frameSizeError
        case .headerBlockTooLarge, .tooManyContinuations, .tooManySettings, .flood: .enhanceYourCalm
        case .badSetting(let setting): setting.id == .initialWindowSize ? .flowControlError : .protocolError
        case .windowOverflow, .windowExceeded: .flowControlError
        case .compression(let error):
            switch error {
            case .listFarTooLarge: .enhanceYourCalm
            default: .compressionError
            }
        }
    }
}

extension HTTP2ConnectionError: CustomStringConvertible {
    package var description: String { "\(self.code): \(self.reason)" }

    private var reason: String {
        switch self {
        case .notHTTP2(let at):
            "the peer does not speak HTTP/2 (octet \(at) of its preface is wrong); is it sending HTTP/1.1 here?"
        case .firstFrameNotSettings(let type): "the peer began with \(type), HTTP/2 begins with SETTINGS"
        case .frameTooLarge(let type, let bytes, let max):
            "\(type) of \(bytes) octets, we accept at most \(max) in a frame"
        case .wrongLength(let type, let bytes): "\(type) cannot have a payload of \(bytes) octets"
        case .wrongStream(let type, let stream): "\(type) is not allowed on stream \(stream)"
        case .closedStream(let type, let stream): "\(type) on stream \(stream), which has ended"
        case .paddingTooLong(let type, let stream): "the padding of \(type) on stream \(stream) exceeds the frame"
        case .pushPromise: "the peer pushes although it may not"
        case .headerBlockInterrupted(let stream, let type):
            "\(type) inside the header block of stream \(stream), only CONTINUATION may follow"
        case .continuationWithoutHeaders(let stream): "CONTINUATION on stream \(stream) continues nothing"
        case .headerBlockTooLarge(let stream, let max):
            "the header block of stream \(stream) is larger than \(max) octets; are its headers that big?"
        case .tooManyContinuations(let stream, let max):
            "the header block of stream \(stream) has more than \(max) CONTINUATION frames"
        case .tooManySettings(let max): "one SETTINGS frame with more than \(max) settings"
        case .badSetting(let setting): "the value of \(setting) is not allowed"
        case .zeroWindowIncrement: "WINDOW_UPDATE of zero for the connection"
        case .windowOverflow: "a flow-control window would pass 2147483647 octets"
        case .windowExceeded: "the peer sent more than the connection's flow-control window allows"
        case .compression(let error): "\(error)"
        case .flood(let kind, let count, let seconds):
            "flood: \(count) \(kind) within \(seconds) s; is the peer broken or hostile?"
        }
    }
}
