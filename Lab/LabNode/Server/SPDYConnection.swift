import CLabNode

/// The receiving half of a SPDY/3.1 connection, as `kubectl port-forward` uses it, and the few frames we send.
///
/// Performs no I/O: bytes in, frames out. Flow control windows are left alone: neither kubectl nor we wait for them.
package struct SPDYConnection: ~Copyable {
    package enum Frame: Hashable, Sendable {
        case open(stream: UInt32, headers: [String: String], isEnd: Bool)
        case data(stream: UInt32, bytes: [UInt8], isEnd: Bool)
        case reset(stream: UInt32)
        case ping([UInt8])
        case goAway
    }
    package struct Malformed: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package static let frameBytesMax = 1 << 20
    package static let headerBytesMax = 64 << 10

    private var buffer: [UInt8] = []
    private let inflater: OpaquePointer?

    package init() {
        let dictionary = SPDYDictionary.bytes
        self.inflater = clabnode_inflater_new(dictionary, UInt32(dictionary.count))
    }

    // SAFETY: made in init, never handed out, freed once here.
    deinit { if let inflater { clabnode_inflater_free(inflater) } }

    /// The frames that are complete now.
    package mutating func receive(_ bytes: [UInt8]) throws(Malformed) -> [Frame] {
        self.buffer += bytes
        var frames: [Frame] = []
        var at = 0
        while self.buffer.count - at >= 8 {
            let length = Int(Self.integer(self.buffer[(at + 5)..<(at + 8)]))
            if length > Self.frameBytesMax { throw Malformed(description: "a SPDY frame of \(length) bytes") }
            guard self.buffer.count - at >= 8 + length else { break }
            let head = Array(self.buffer[at..<(at + 8)])
            let payload = Array(self.buffer[(at + 8)..<(at + 8 + length)])
            if let frame = try self.frame(head, payload) { frames.append(frame) }
            at += 8 + length
        }
        self.buffer.removeFirst(at)
        return frames
    }

    private func frame(_ head: [UInt8], _ payload: [UInt8]) throws(Malformed) -> Frame? {
        let isEnd = head[4] & 1 == 1
        guard head[0] & 0x80 != 0 else {
            return .data(stream: Self.integer(head[0..<4]), bytes: payload, isEnd: isEnd)
        }
        let wanted = [1: 10, 3: 8, 6: 4]
        let type = Int(Self.integer(head[2..<4]))
        if payload.count < wanted[type] ?? 0 { throw Malformed(description: "a short SPDY frame of type \(type)") }
        switch type {
        case 1:
            let headers = try self.headers(Array(payload[10...]))
            return .open(stream: Self.integer(payload[0..<4]) & 0x7fff_ffff, headers: headers, isEnd: isEnd)
        case 3: return .reset(stream: Self.integer(payload[0..<4]) & 0x7fff_ffff)
        case 6: return .ping(Array(payload[0..<4]))
        case 7: return .goAway
        // HEADERS share the compression state, so they must be read even when nobody wants them.
        case 8 where payload.count >= 4:
            _ = try self.headers(Array(payload[4...]))
            return nil
        default: return nil
        }
    }

    private func headers(_ block: [UInt8]) throws(Malformed) -> [String: String] {
        guard let inflater else { throw Malformed(description: "no memory for SPDY headers") }
        var plain = [UInt8](repeating: 0, count: Self.headerBytesMax)
        let count = clabnode_inflate(inflater, block, UInt32(block.count), &plain, UInt32(plain.count))
        guard count >= 4 else { throw Malformed(description: "SPDY headers that cannot be decompressed") }
        var rest = plain[..<count]
        func text() throws(Malformed) -> String {
            guard rest.count >= 4 else { throw Malformed(description: "SPDY headers end early") }
            let length = Int(Self.integer(rest.prefix(4)))
            rest = rest.dropFirst(4)
            guard rest.count >= length else { throw Malformed(description: "SPDY headers end early") }
            defer { rest = rest.dropFirst(length) }
            return String(decoding: rest.prefix(length), as: UTF8.self)
        }
        let pairs = Int(Self.integer(rest.prefix(4)))
        rest = rest.dropFirst(4)
        var headers: [String: String] = [:]
        for _ in 0..<min(pairs, 64) {
            let name = try text()
            headers[name.lowercased()] = try text()
        }
        return headers
    }

    private static func integer(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }

    private static func bytes(_ number: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
    }

    // MARK: What we send

    /// The answer to an opened stream: no headers. The header block is a zlib stream of its own for all answers of
    /// the connection; ours is made of stored blocks, so the first one only differs by zlib's two bytes. Each ends with
    /// an empty block, as a flush does: Go's reader looks for the next one right away and stays broken without it.
    package static func reply(stream: UInt32, isFirst: Bool) -> [UInt8] {
        let block: [UInt8] = (isFirst ? [0x78, 0x01] : []) + [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        return [0x80, 0x03, 0x00, 0x02, 0x00] + self.bytes(UInt32(4 + block.count)).dropFirst() + self.bytes(stream)
            + block
    }

    package static func data(stream: UInt32, _ bytes: [UInt8], isEnd: Bool) -> [UInt8] {
        self.bytes(stream) + [isEnd ? 1 : 0] + self.bytes(UInt32(bytes.count)).dropFirst() + bytes
    }

    package static func ping(_ id: [UInt8]) -> [UInt8] { [0x80, 0x03, 0x00, 0x06, 0x00, 0x00, 0x00, 0x04] + id }
}
