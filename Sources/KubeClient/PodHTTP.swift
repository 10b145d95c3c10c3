/// The answer of a server inside a pod.
public struct PodResponse: Hashable, Sendable {
    public var status: Int
    public var body: [UInt8]

    public init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

/// One HTTP/1.1 response, read from a connection that the server closes after it (RFC 9112, section 6).
///
/// Only as strict as a reader of our own pods needs: lengths are bounded, everything that is not understood is an error.
package struct PodResponseReader {
    /// A dump of 100 000 workloads is about 60 MB.
    package static let bytesMax = 512 << 20

    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    private var received: [UInt8] = []

    package init() {}

    /// - Returns: the response as soon as it is whole, by its own length; nil: more has to come.
    package mutating func receive(_ bytes: some Sequence<UInt8>) throws(Invalid) -> PodResponse? {
        self.received += bytes
        guard self.received.count <= Self.bytesMax else {
            throw Invalid(description: "the answer is larger than \(Self.bytesMax) bytes")
        }
        return try self.response(isEnd: false)
    }

    /// The connection has ended.
    package func end() throws(Invalid) -> PodResponse {
        guard let response = try self.response(isEnd: true) else {
            throw Invalid(description: "the answer breaks off after \(self.received.count) bytes")
        }
        return response
    }

    private func response(isEnd: Bool) throws(Invalid) -> PodResponse? {
        guard let headEnd = Self.find([13, 10, 13, 10], in: self.received[...]) else { return nil }
        let lines = String(decoding: self.received[..<headEnd], as: UTF8.self).split(
            separator: "\r\n", omittingEmptySubsequences: false)
        let words = lines[0].split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]), (200...599).contains(status)
        else { throw Invalid(description: "no HTTP response: \(lines[0].prefix(80))") }
        var length: Int?
        var isChunked = false
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            switch line[..<colon].lowercased() {
            case "content-length":
                guard let number = Int(value), number >= 0 else {
                    throw Invalid(description: "content-length \(value)")
                }
                length = number
            case "transfer-encoding": isChunked = value.lowercased() == "chunked"
            default: break
            }
        }
        let body = self.received[(headEnd + 4)...]
        if isChunked {
            // Taken apart only when it may be whole, not with each piece that arrives.
            guard body.suffix(4).elementsEqual([13, 10, 13, 10]) else { return nil }
            return try Self.chunks(body).map { PodResponse(status: status, body: $0) }
        }
        if let length {
            return body.count >= length ? PodResponse(status: status, body: Array(body.prefix(length))) : nil
        }
        return isEnd ? PodResponse(status: status, body: Array(body)) : nil
    }

    /// - Returns: nil when the last chunk is missing.
    private static func chunks(_ bytes: ArraySlice<UInt8>) throws(Invalid) -> [UInt8]? {
        var rest = bytes
        var body: [UInt8] = []
        while true {
            guard let lineEnd = Self.find([13, 10], in: rest) else { return nil }
            let word = String(decoding: rest[..<lineEnd], as: UTF8.self).prefix { $0 != ";" }
            guard let size = Int(word, radix: 16), (0...Self.bytesMax).contains(size) else {
                throw Invalid(description: "chunk size \(word.prefix(20))")
            }
            rest = rest[(lineEnd + 2)...]
            if size == 0 { return body }
            guard rest.count >= size + 2 else { return nil }
            body += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
        }
    }

    private static func find(_ pattern: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        guard bytes.count >= pattern.count else { return nil }
        return (bytes.startIndex...(bytes.endIndex - pattern.count)).first { index in
            bytes[index] == pattern[0] && bytes[index..<(index + pattern.count)].elementsEqual(pattern)
        }
    }
}
