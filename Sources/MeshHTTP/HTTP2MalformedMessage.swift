/// Why a header section is malformed (RFC 9113 section 8.1.1): its stream is reset with PROTOCOL_ERROR, the connection
/// lives on.
package enum HTTP2MalformedMessage: Error, Hashable, Sendable, CustomStringConvertible {
    case badName(String)
    case badValue(name: String)
    case connectionHeader(String)
    case unknownPseudoHeader(String)
    case repeatedPseudoHeader(String)
    case pseudoHeaderAfterField(String)
    case missingPseudoHeader(String)
    case unexpectedPseudoHeader(String)
    case badMethod(String)
    case badScheme(String)
    case badAuthority(String)
    case badPath(String)
    case badStatus(String)
    /// `host` and `:authority` name different places.
    case hostDiffers
    case badContentLength(String)
    /// The body is not as long as `content-length` says.
    case wrongContentLength
    /// HEADERS that are no trailers although the message has begun.
    case secondHead
    case notConnect(method: String)
    case truncated

    package var description: String {
        switch self {
        case .badName(let name): "header name \"\(name)\" is empty, not lower-case or has forbidden characters"
        case .badValue(let name): "the value of header \(name) has forbidden characters"
        case .connectionHeader(let name): "header \(name) belongs to HTTP/1.1 and is forbidden in HTTP/2"
        case .unknownPseudoHeader(let name): "unknown pseudo-header \(name)"
        case .repeatedPseudoHeader(let name): "\(name) came twice"
        case .pseudoHeaderAfterField(let name): "\(name) came after an ordinary header"
        case .missingPseudoHeader(let name): "\(name) is missing"
        case .unexpectedPseudoHeader(let name): "\(name) is not allowed here"
        case .badMethod(let text): "bad method \"\(text)\""
        case .badScheme(let text): "bad scheme \"\(text)\""
        case .badAuthority(let text): "bad authority \"\(text)\""
        case .badPath(let text): "bad path \"\(text)\""
        case .badStatus(let text): "bad status \"\(text)\""
        case .hostDiffers: "host and :authority differ"
        case .badContentLength(let text): "bad content-length \"\(text)\""
        case .wrongContentLength: "the body is not as long as content-length says"
        case .secondHead: "a second header section that does not end the message"
        case .notConnect(let method): "method \(method), only CONNECT is served here"
        case .truncated: "the header list was larger than allowed"
        }
    }
}
