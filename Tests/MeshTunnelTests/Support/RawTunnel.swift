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
    private let tls: TLSSession
    private var reader: HTTP2FrameReader
    private var decoder = HPACKDecoder()
    private var encoder = HPACKEncoder()
    private var frames: [Frame] = []
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)

    /// Ends the handshake; as a client it has then sent the preface and SETTINGS, as a server SETTINGS.
    init(_ socket: BlockingSocket, _ role: TLSContext.Role, _ issued: TestCA.Issued) throws {
        self.socket = socket
        let context = try TLSContext(
            role: role, chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots)
        guard let tls = TLSSession(context) else { throw Broken(description: "no memory") }
        self.tls = tls
        self.reader = HTTP2FrameReader(role: role == .server ? .server : .client)
        try self.handshake()
        var bytes: [UInt8] = []
        if role == .client { HTTP2FrameWriter.appendClientPreface(to: &bytes) }
        HTTP2FrameWriter.appendSettings([], to: &bytes)
        try self.send(bytes)
    }

    deinit {
        self.scratch.deallocate()
        self.fedBytes.deallocate()
    }

    private func handshake() throws {
        while true {
            let (progress, count) = self.tls.handshake(into: self.scratch)
            if count > 0 { try self.socket.send(self.scratch[..<count]) }
            switch progress {
            case .done: return
            case .failed: throw Broken(description: self.tls.errorText)
            case .wantsMore: try self.feed()
            }
        }
    }

    /// The session borrows what it is fed, so that is kept.
    private var fed: [UInt8] = []
    private let fedBytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)

    private func feed() throws {
        self.fed = try self.socket.receive(1 << 16)
        guard !self.fed.isEmpty else { throw Broken(description: "the connection ended") }
        self.fedBytes.copyBytes(from: self.fed)
        self.tls.feed(UnsafeRawBufferPointer(rebasing: self.fedBytes[..<self.fed.count]))
    }

    /// Seals `bytes` as they are: one record up to 16 KiB.
    func send(_ bytes: [UInt8]) throws {
        let sealed = bytes.withUnsafeBytes { self.tls.write($0.baseAddress!, $0.count, into: self.scratch) }
        guard let sealed else { throw Broken(description: self.tls.errorText) }
        try self.socket.send(self.scratch[..<sealed])
    }

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
            let plain = UnsafeMutableRawBufferPointer(rebasing: self.scratch[..<65_536])
            switch self.tls.read(into: plain.baseAddress!, plain.count) {
            case .plain(let count): try self.parse(UnsafeRawBufferPointer(rebasing: plain[..<count]))
            case .wantsMore: try self.feed()
            case .closed: throw Broken(description: "closed")
            case .failed: throw Broken(description: self.tls.errorText)
            }
        }
        return self.frames.removeFirst()
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
