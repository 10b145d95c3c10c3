import MeshHTTP

/// The test's half of an HTTP/2 connection over a ``MemoryChannel``: it may say anything, also what is wrong, and
/// understands what it is told.
final class FramePeer {
    enum Said: Equatable, Sendable, CustomStringConvertible {
        case head(UInt32, HTTP2HeaderList, end: Bool)
        case data(UInt32, [UInt8], end: Bool)
        case reset(UInt32, HTTP2ErrorCode)
        case settings([HTTP2Setting]), settingsAck
        case ping(UInt64, ack: Bool)
        case goAway(UInt32, HTTP2ErrorCode)
        case window(UInt32, Int)

        var description: String {
            switch self {
            case .head(let id, let list, let end):
                "HEADERS \(id) \(list.description.split(separator: "\n").joined(separator: ", "))\(end ? " END" : "")"
            case .data(let id, let bytes, let end): "DATA \(id) \(bytes.count)\(end ? " END" : "")"
            case .reset(let id, let code): "RST_STREAM \(id) \(code)"
            case .settings(let settings): "SETTINGS \(settings)"
            case .settingsAck: "SETTINGS ack"
            case .ping(let opaque, let ack): "PING \(opaque)\(ack ? " ack" : "")"
            case .goAway(let last, let code): "GOAWAY \(last) \(code)"
            case .window(let id, let increment): "WINDOW_UPDATE \(id) \(increment)"
            }
        }
    }

    let channel: MemoryChannel
    private var reader: HTTP2FrameReader
    private var decoder = HPACKDecoder()
    /// Everything that was heard, without what belongs to the beginning.
    private(set) var said: [Said] = []
    private let role: HTTP2FrameReader.Role

    /// - Parameter role: who the test is.
    init(_ channel: MemoryChannel, _ role: HTTP2FrameReader.Role) {
        self.channel = channel
        self.role = role
        var limits = HTTP2FrameReader.Limits()
        limits.frameBytesMax = 1 << 20
        limits.headerBlockBytesMax = 1 << 20
        limits.continuationFramesMax = 1_000
        self.reader = HTTP2FrameReader(role: role, limits: limits)
    }

    /// The preface with these settings, and whatever the other side begins with.
    func begin(_ settings: [HTTP2Setting] = []) {
        var bytes: [UInt8] = []
        if self.role == .client { HTTP2FrameWriter.appendClientPreface(to: &bytes) }
        HTTP2FrameWriter.appendSettings(settings, to: &bytes)
        HTTP2FrameWriter.appendSettingsAck(to: &bytes)
        self.channel.deliver(bytes)
        self.listen()
        self.said.removeAll { said in
            switch said {
            case .settings, .settingsAck, .window: true
            default: false
            }
        }
    }

    // MARK: Hearing

    func listen() {
        let bytes = self.channel.take()
        bytes.withUnsafeBytes { whole in
            var input = whole
            do throws(HTTP2ConnectionError) {
                while let event = try self.reader.next(&input) { self.heard(event) }
            } catch { preconditionFailure("the product broke HTTP/2: \(error)") }
        }
    }

    private func heard(_ event: HTTP2Event) {
        switch event {
        case .headers(let id, let block, let end):
            do throws(HPACKError) {
                self.said.append(.head(id.rawValue, try self.decoder.decode(block), end: end))
            } catch { preconditionFailure("the product broke HPACK: \(error)") }
        case .data(let id, let bytes, _, let end): self.said.append(.data(id.rawValue, Array(bytes), end: end))
        case .reset(let id, let code): self.said.append(.reset(id.rawValue, code))
        case .settings(let settings): self.said.append(.settings(settings))
        case .settingsAck: self.said.append(.settingsAck)
        case .ping(let opaque, let ack): self.said.append(.ping(opaque, ack: ack))
        case .goAway(let last, let code, _): self.said.append(.goAway(last.rawValue, code))
        case .windowUpdate(let id, let increment): self.said.append(.window(id.rawValue, increment))
        case .priorityIgnored, .unknownIgnored, .streamError: preconditionFailure("the product said \(event)")
        }
    }

    /// The response's head, the last one, of a stream.
    func head(_ id: UInt32) -> HTTP2HeaderList? {
        for case .head(id, let list, _) in self.said.reversed() where list[":status"] != nil || list[":method"] != nil {
            return list
        }
        return nil
    }

    func body(_ id: UInt32) -> String {
        var bytes: [UInt8] = []
        for case .data(id, let piece, _) in self.said { bytes += piece }
        return String(decoding: bytes, as: UTF8.self)
    }

    func hasEnded(_ id: UInt32) -> Bool {
        self.said.contains {
            switch $0 {
            case .head(id, _, true), .data(id, _, true): true
            default: false
            }
        }
    }

    func resetCode(_ id: UInt32) -> HTTP2ErrorCode? {
        for case .reset(id, let code) in self.said { return code }
        return nil
    }

    var goAways: [HTTP2ErrorCode] { self.said.compactMap { if case .goAway(_, let code) = $0 { code } else { nil } } }

    // MARK: Saying

    func send(_ bytes: [UInt8]) {
        self.channel.deliver(bytes)
        self.listen()
    }

    func send(
        _ type: HTTP2FrameType, _ flags: HTTP2FrameFlags = [], _ stream: UInt32 = 0, _ payload: [UInt8] = []
    ) { self.send(frame(type, flags, stream, payload)) }

    func headers(_ stream: UInt32, _ fields: [(String, String)], end: Bool = true) {
        self.send(.headers, end ? [.endHeaders, .endStream] : .endHeaders, stream, block(fields))
    }

    func data(_ stream: UInt32, _ text: String, end: Bool = false) {
        self.send(.data, end ? .endStream : [], stream, Array(text.utf8))
    }

    func window(_ stream: UInt32, _ increment: UInt32) { self.send(.windowUpdate, [], stream, word(increment)) }
    func reset(_ stream: UInt32, _ code: HTTP2ErrorCode = .cancel) {
        self.send(.resetStream, [], stream, word(code.rawValue))
    }
    func settings(_ settings: [HTTP2Setting]) {
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendSettings(settings, to: &bytes)
        self.send(bytes)
    }
}

/// A frame as octets; `length` may lie.
func frame(
    _ type: HTTP2FrameType, _ flags: HTTP2FrameFlags = [], _ stream: UInt32 = 0, _ payload: [UInt8] = [],
    length: Int? = nil
) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: HTTP2FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes {
        HTTP2FrameHeader(
            length: length ?? payload.count, type: type, flags: flags, stream: HTTP2StreamID(stream)
        ).write(to: $0.baseAddress!)
    }
    return bytes + payload
}

func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * $0)) } }

/// A header block of literals that enter no table: whatever is said of names and values stays between its lines.
func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { [0x00] + literal($0.0) + literal($0.1) }
}

func literal(_ text: String) -> [UInt8] {
    var bytes = Array(text.utf8)
    precondition(bytes.count < 127 + 128 * 128)
    if bytes.count < 127 {
        bytes.insert(UInt8(bytes.count), at: 0)
        return bytes
    }
    let rest = bytes.count - 127
    return rest < 128
        ? [127, UInt8(rest)] + bytes : [127, UInt8(rest & 127 | 128), UInt8(rest >> 7)] + bytes
}
