import MeshHTTP
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// A server engine with an echo application, an honest client that has a stream open, and room for an attacker.
struct Victim {
    let pods: TwoPods
    let echo: BlockingServer
    /// A listener whose backlog is full: dialling it neither succeeds nor fails.
    let hanging: BlockingServer
    private let fillers: [BlockingSocket?]
    private let issued: TestCA.Issued

    var authority: String { "127.0.0.1:\(self.echo.port)" }
    var hangingAuthority: String { "127.0.0.1:\(self.hanging.port)" }

    init(_ configure: (inout TunnelConfiguration) -> Void = { _ in }) throws {
        let ca = try TestCA()
        let (echo, hanging) = (try BlockingServer.echo(), try BlockingServer(handler: nil))
        self.echo = echo
        self.hanging = hanging
        self.fillers = (0..<2).map { _ in try? BlockingSocket.connect(port: hanging.port, waiting: false) }
        self.pods = try TwoPods(
            target: self.echo.port, ca: ca,
            configureServer: {
                // A task may wait long for its turn; PINGs would come between what a test looks at.
                $0.pingInterval = .seconds(600)
                $0.pingTimeout = .seconds(600)
                configure(&$0)
            })
        self.issued = try ca.issue(TwoPods.clientIdentity)
    }

    func socket() throws -> BlockingSocket { try BlockingSocket.connect(port: self.pods.serverPorts.inboundTunnel) }
    func tunnel() throws -> RawTunnel { try RawTunnel(try self.socket(), .client, self.issued) }

    /// A tunnel with stream 1 open to the echo.
    func honest() throws -> RawTunnel {
        let client = try self.tunnel()
        try client.send(client.connect(1, self.authority))
        guard case .headers(1, let list, _) = try client.nextAnswering(), list[":status"] == "200" else {
            throw RawTunnel.Broken(description: "the honest client was refused")
        }
        return client
    }

    /// Runs an attack beside an honest client, whose stream must work before, and after.
    ///
    /// - Returns: what the server's observer saw.
    static func attack(
        configure: (inout TunnelConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (Victim, RawTunnel) throws -> Void
    ) async throws -> RecordingObserver.Log {
        let victim = try Victim(configure)
        try await offThread {
            let honest = try victim.honest()
            try honest.echo([1, 2, 3])
            try body(victim, victim.tunnel())
            try honest.echo([4, 5, 6])
        }
        let logs = await victim.pods.stop()
        #expect(logs.server.mistakes.isEmpty)
        return logs.server
    }
}

extension RawTunnel {
    /// The next frame, as ``next()``; PINGs are answered on the way.
    func nextAnswering() throws -> Frame {
        while true {
            let frame = try self.next()
            guard case .ping(let opaque, ack: false) = frame else { return frame }
            try self.pong(opaque)
        }
    }

    func pong(_ opaque: UInt64) throws {
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendPing(opaque: opaque, ack: true, to: &bytes)
        try self.send(bytes)
    }

    /// Sends on stream 1 and waits for the same bytes.
    func echo(_ bytes: [UInt8]) throws {
        try self.send(Self.data(1, bytes))
        var back: [UInt8] = []
        while back.count < bytes.count {
            guard case .data(1, let piece, _) = try self.nextAnswering() else {
                throw Broken(description: "the echo did not come back")
            }
            back += piece
        }
        guard back == bytes else { throw Broken(description: "the echo is not what was sent") }
    }

    /// Reads until GOAWAY; nil when the connection ends without.
    func goAway() -> HTTP2ErrorCode? {
        while let frame = try? self.nextAnswering() {
            if case .goAway(_, let code) = frame { return code }
        }
        return nil
    }

    /// Sends in records of at most 16 KiB. The victim may close before the end of it.
    func flood(_ bytes: [UInt8]) {
        var at = 0
        while at < bytes.count {
            let end = min(bytes.count, at + 16_000)
            guard (try? self.send(Array(bytes[at..<end]))) != nil else { return }
            at = end
        }
    }

    static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
        let count = payload.count
        return [UInt8(count >> 16), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
            + withUnsafeBytes(of: stream.bigEndian) { Array($0) } + payload
    }
}
