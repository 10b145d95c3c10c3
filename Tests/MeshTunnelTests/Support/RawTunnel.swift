import MeshHTTP
import MeshLoop
import MeshTestSupport

/// One end of an HBONE connection under the test's control, frame by frame: blocking, with the real TLS and codec.
final class RawTunnel {
    enum Frame: Equatable {
        case headers(UInt32, HTTP2HeaderList, endStream: Bool)
        case data(UInt32, [UInt8], endStream: Bool)
        case reset(UInt32, HTTP2ErrorCode)
        case goAway(last: UInt32, HTTP2ErrorCode)
        case windowUpdate(UInt32, Int)
        case ping(UInt64, ack: Bool)
        case settings
        case other
    }

    struct Broken: Error, CustomStringConvertible { var description: String }

    let socket: BlockingSocket
    private var tls: SessionBytes
    private var reader: HTTP2FrameReader
    private var decoder = HPACKDecoder()
    private var encoder = HPACKEncoder()
    private var frames: [Frame] = []
    private var isClosed = false

    /// Ends the handshake; as a client it has then sent the preface and SETTINGS, as a server SETTINGS.
    init(_ socket: BlockingSocket, _ role: TLSContext.Role, _ issued: TestCA.Issued) throws {
        self.socket = socket
        let context = try TLSContext(
            role: role, chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots)
        guard let tls = TLSSession(context) else { throw Broken(description: "no memory") }
        self.tls = SessionBytes(tls)
        self.reader = HTTP2FrameReader(role: role == .server ? .server : .client)
        let rest = try self.handshake(tls)
        guard tls.settle() else { throw Broken(description: "no keys") }
        try self.received(rest)
        var bytes: [UInt8] = []
        if role == .client { HTTP2FrameWriter.appendClientPreface(to: &bytes) }
        HTTP2FrameWriter.appendSettings([], to: &bytes)
        try self.send(bytes)
    }

    /// - Returns: what came behind the handshake.
    private func handshake(_ tls: TLSSession) throws -> [UInt8] {
        let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
        defer { out.deallocate() }
        func step() throws -> TLSSession.Progress {
            let (progress, count) = tls.handshake(into: out)
            if count > 0 { try self.socket.send(out[..<count]) }
            return progress
        }
        var progress = try step()
        var rest: [UInt8] = []
        while progress == .wantsMore {
            let fed = try self.receive()
            try fed.withUnsafeBytes {
                tls.feed($0)
                progress = try step()
                rest = Array(fed.suffix(tls.unusedBytes))
            }
        }
        guard progress == .done else { throw Broken(description: tls.errorText) }
        return rest
    }

    private func receive() throws -> [UInt8] {
        let bytes = try self.socket.receive(1 << 16)
        guard !bytes.isEmpty else { throw Broken(description: "the connection ended") }
        return bytes
    }

    /// Seals `bytes` as they are: one record up to 16 KiB.
    func send(_ bytes: [UInt8]) throws { try self.socket.send(self.tls.seal(bytes)) }

    func headers(_ id: UInt32, _ list: HTTP2HeaderList, endStream: Bool = false) -> [UInt8] {
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendHeaders(
            stream: HTTP2StreamID(id), block: self.encoder.encode(list), endStream: endStream, frameBytesMax: 16_384,
            to: &bytes)
        return bytes
    }

    func connect(_ id: UInt32, _ authority: String) -> [UInt8] {
        self.headers(id, [":method": "CONNECT", ":authority": authority])
    }

    static func data(_ id: UInt32, _ payload: [UInt8], endStream: Bool = false) -> [UInt8] {
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendDataHeader(
            stream: HTTP2StreamID(id), length: payload.count, endStream: endStream, to: &bytes)
        return bytes + payload
    }

    /// The next frame that is none of those that every connection has.
    func next() throws -> Frame {
        while true {
            let frame = try self.nextOfAny()
            switch frame {
            case .settings, .windowUpdate, .other: continue
            default: return frame
            }
        }
    }

    func nextOfAny() throws -> Frame {
        while self.frames.isEmpty {
            if self.isClosed { throw Broken(description: "closed") }
            try self.received(self.receive())
        }
        return self.frames.removeFirst()
    }

    private func received(_ bytes: [UInt8]) throws {
        let (text, isClosed) = try self.tls.open(bytes)
        try text.withUnsafeBytes { try self.parse($0) }
        self.isClosed = isClosed
    }

    private func parse(_ bytes: UnsafeRawBufferPointer) throws {
        var input = bytes
        while let event = try self.reader.next(&input) {
            switch event {
            case .data(let id, let bytes, _, let end):
                self.frames.append(.data(id.rawValue, Array(bytes), endStream: end))
            case .headers(let id, let block, let end):
                self.frames.append(.headers(id.rawValue, try self.decoder.decode(block), endStream: end))
            case .reset(let id, let code): self.frames.append(.reset(id.rawValue, code))
            case .goAway(let last, let code, _): self.frames.append(.goAway(last: last.rawValue, code))
            case .windowUpdate(let id, let count): self.frames.append(.windowUpdate(id.rawValue, count))
            case .ping(let opaque, let ack): self.frames.append(.ping(opaque, ack: ack))
            case .settings: self.frames.append(.settings)
            default: self.frames.append(.other)
            }
        }
    }
}
