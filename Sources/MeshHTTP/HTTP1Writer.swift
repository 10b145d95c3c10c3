/// Writes heads and chunks of HTTP/1.1, without I/O. Fields are written as they are: who calls has checked them.
package enum HTTP1Writer {
    /// `METHOD target HTTP/1.1` and fields, the empty line not yet.
    package static func appendRequestLine(method: String, target: String, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: method.utf8)
        bytes.append(0x20)
        bytes.append(contentsOf: target.utf8)
        bytes.append(contentsOf: " HTTP/1.1\r\n".utf8)
    }

    package static func appendStatusLine(_ status: Int, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: "HTTP/1.1 ".utf8)
        bytes.append(UInt8(0x30 + status / 100 % 10))
        bytes.append(UInt8(0x30 + status / 10 % 10))
        bytes.append(UInt8(0x30 + status % 10))
        bytes.append(0x20)
        bytes.append(contentsOf: self.reason(status).utf8)
        bytes.append(contentsOf: [0x0D, 0x0A])
    }

    package static func appendField(_ name: StaticString, _ value: String, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        bytes.append(contentsOf: [0x3A, 0x20])
        bytes.append(contentsOf: value.utf8)
        bytes.append(contentsOf: [0x0D, 0x0A])
    }

    package static func append(_ fields: HTTP2HeaderList, to bytes: inout [UInt8]) {
        fields.bytes.withUnsafeBufferPointer { source in
            for field in fields.fields {
                let value = field.offset + field.nameCount
                bytes.append(contentsOf: UnsafeBufferPointer(rebasing: source[field.offset..<value]))
                bytes.append(0x3A)
                bytes.append(0x20)
                bytes.append(contentsOf: UnsafeBufferPointer(rebasing: source[value..<value + field.valueCount]))
                bytes.append(0x0D)
                bytes.append(0x0A)
            }
        }
    }

    package static func appendEndOfHead(to bytes: inout [UInt8]) { bytes.append(contentsOf: [0x0D, 0x0A]) }

    /// The line before a chunk's data; behind the data comes CR LF.
    package static func appendChunkSize(_ count: Int, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: String(count, radix: 16).utf8)
        bytes.append(contentsOf: [0x0D, 0x0A])
    }

    /// The last chunk and trailers.
    package static func appendLastChunk(_ trailers: HTTP2HeaderList, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: [0x30, 0x0D, 0x0A])
        self.append(trailers, to: &bytes)
        bytes.append(contentsOf: [0x0D, 0x0A])
    }

    /// RFC 9110, 15; the empty string for what it does not know.
    static func reason(_ status: Int) -> String { self.reasons[status] ?? "" }

    private static let reasons: [Int: String] = [
        100: "Continue", 101: "Switching Protocols", 103: "Early Hints", 200: "OK", 201: "Created", 202: "Accepted",
        203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content",
        300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
        307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
        402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
        406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required",
        412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
        416: "Range Not Satisfiable", 417: "Expectation Failed", 421: "Misdirected Request",
        422: "Unprocessable Content", 425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
        429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
        501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
        505: "HTTP Version Not Supported",
    ]
}
