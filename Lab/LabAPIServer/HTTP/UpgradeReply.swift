internal import NIOCore
internal import NIOHTTP1

/// The head of an HTTP/1.1 response to an upgrade request (RFC 9112, sections 4 and 5).
struct UpgradeReply {
    /// Heads that are longer are refused.
    static let headBytesMax = 16 << 10

    let head: HTTPResponseHead
    /// The length of a refusal's body; nil when it goes to the end of the connection.
    let bodyBytes: Int?

    struct Malformed: Error, CustomStringConvertible {
        let description: String
    }

    /// Takes a head off the buffer; what stays came behind it.
    ///
    /// - Returns: nil, with the buffer as it was, while the head is not complete.
    init?(_ buffer: inout ByteBuffer) throws(Malformed) {
        let view = buffer.readableBytesView
        let end = Array("\r\n\r\n".utf8)
        guard let range = view.prefix(Self.headBytesMax).firstRange(of: end) else {
            if view.count < Self.headBytesMax { return nil }
            throw Malformed(description: "its head is longer than \(Self.headBytesMax) bytes")
        }
        let text = String(decoding: view[..<range.lowerBound], as: UTF8.self)
        buffer.moveReaderIndex(to: range.upperBound)
        var lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)[...]
        let words = (lines.popFirst() ?? "").split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), words[1].utf8.count == 3, let code = UInt(words[1]),
            code >= 100
        else { throw Malformed(description: "it does not begin with an HTTP/1.1 status line") }
        var head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: Int(code)))
        for line in lines {
            guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else {
                throw Malformed(description: "a line of its head is no header: \(line.prefix(100))")
            }
            let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
            head.headers.add(name: String(line[..<colon]), value: String(value))
        }
        self.head = head
        self.bodyBytes = head.headers.first(name: "content-length").flatMap { Int($0) }.map { max(0, $0) }
    }
}
