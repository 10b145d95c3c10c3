/// The little HTTP/1.1 that the CNI plugin and the node agent speak over a unix socket: one request and one answer per
/// connection, bodies with a `Content-Length`. Anything else is refused.
public struct UnixHTTPRequest: Hashable, Sendable {
    public let method, target: String
    public let body: [UInt8]

    public init(method: String, target: String, body: [UInt8]) {
        self.method = method
        self.target = target
        self.body = body
    }

    var encoded: [UInt8] {
        Array(
            """
            \(self.method) \(self.target) HTTP/1.1\r
            Host: unix\r
            Content-Type: application/json\r
            Content-Length: \(self.body.count)\r
            Connection: close\r
            \r

            """.utf8) + self.body
    }
}

public struct UnixHTTPResponse: Hashable, Sendable {
    public let status: Int
    public let body: [UInt8]

    public init(status: Int, body: [UInt8] = []) {
        self.status = status
        self.body = body
    }

    public init(status: Int, text: String) { self.init(status: status, body: Array(text.utf8)) }

    public var text: String { String(decoding: self.body, as: UTF8.self) }

    private var reason: String {
        switch self.status {
        case 200: "OK"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 503: "Service Unavailable"
        default: "Error"
        }
    }

    var encoded: [UInt8] {
        Array(
            "HTTP/1.1 \(self.status) \(self.reason)\r\nContent-Length: \(self.body.count)\r\nConnection: close\r\n\r\n"
                .utf8) + self.body
    }
}

/// Collects the bytes of one message.
package struct UnixHTTPReader {
    package static let headBytesMax = 8 << 10
    package static let bodyBytesMax = 1 << 20

    package struct Malformed: Error, Hashable, CustomStringConvertible {
        package let description: String
        package init(_ description: String) { self.description = "not a message of the plugin: \(description)" }
    }

    private var bytes: [UInt8] = []
    /// Where the body begins and how long it is; nil until the head is complete.
    private var body: Range<Int>?
    private var startLine = ""

    package init() {}

    /// - Returns: the start line and the body once the message is complete.
    package mutating func received(_ more: [UInt8]) throws(Malformed) -> (startLine: String, body: [UInt8])? {
        self.bytes += more
        if self.body == nil { try self.readHead() }
        guard let body = self.body, self.bytes.count >= body.upperBound else { return nil }
        return (self.startLine, Array(self.bytes[body]))
    }

    private mutating func readHead() throws(Malformed) {
        let end = Array("\r\n\r\n".utf8)
        let searched = self.bytes.prefix(Self.headBytesMax)
        guard let headEnd = searched.indices.dropLast(3).first(where: { searched[$0..<$0 + 4].elementsEqual(end) })
        else {
            if self.bytes.count >= Self.headBytesMax { throw Malformed("head longer than \(Self.headBytesMax) bytes") }
            return
        }
        // Split bytes, not characters: Swift counts CR LF as one character.
        let lines = self.bytes[..<headEnd].split(separator: UInt8(ascii: "\n")).map { line in
            String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
        }
        self.startLine = lines.first ?? ""
        var length = 0
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { throw Malformed("header line without a colon") }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            switch line[..<colon].lowercased() {
            case "content-length":
                guard let count = Int(value), (0...Self.bodyBytesMax).contains(count) else {
                    throw Malformed("content length \(value)")
                }
                length = count
            case "transfer-encoding": throw Malformed("transfer encoding \(value)")
            default: continue
            }
        }
        self.body = headEnd + 4..<headEnd + 4 + length
    }
}
