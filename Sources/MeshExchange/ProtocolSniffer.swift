internal import MeshHTTP
internal import MeshLoop
internal import MeshTunnel

/// Looks at a client's first bytes: which protocol is this?
///
/// A service with routes or policies of HTTP is never opened to a client that says nothing, or something else: that would
/// be a way around them.
final class ProtocolSniffer: PipeConsumer {
    enum Finding: Hashable { case needsMore, http1, http2, tls, other }

    private let server: ExchangeServer
    private let stream: ServedStream
    private let target: ServedTarget
    private let isHTTPOnly: Bool
    private var begun: [UInt8] = []
    private var timer: LoopTimer?
    /// A protocol is told apart after fewer bytes.
    static let bytesMax = 64

    init(_ server: ExchangeServer, _ stream: ServedStream, _ target: ServedTarget, isHTTPOnly: Bool) {
        self.server = server
        self.stream = stream
        self.target = target
        self.isHTTPOnly = isHTTPOnly
        guard !isHTTPOnly else { return }
        let timer = LoopTimer(loop: server.loop) { [unowned self] in self.becomeOpaque(.none) }
        self.timer = timer
        timer.arm(after: server.configuration.silenceTimeout)
    }

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.begun.isEmpty {
            // Nearly always it is all there.
            let finding = Self.look(bytes)
            if finding != .needsMore { return self.became(finding, []) .pipeReceived(bytes) }
        }
        self.begun.append(contentsOf: bytes.prefix(Self.bytesMax * 4))
        let finding = self.begun.withUnsafeBytes { Self.look($0) }
        guard finding != .needsMore else { return min(bytes.count, Self.bytesMax * 4) }
        let had = self.begun
        return self.became(finding, had, min(bytes.count, Self.bytesMax * 4))
    }

    private func became(_ finding: Finding, _ had: [UInt8], _ taken: Int) -> Int {
        let next = self.became(finding, had)
        _ = had.withUnsafeBytes { next.pipeReceived($0) }
        return taken
    }

    private func became(_ finding: Finding, _ had: [UInt8]) -> any PipeConsumer {
        self.timer?.cancel()
        self.timer = nil
        let next: any PipeConsumer
        switch finding {
        case .http2: next = HTTP2ServerConnection(self.server, self.stream, self.target)
        case .tls where !self.isHTTPOnly:
            next = OpaqueConnection(self.server, self.stream, self.target, hello: .expected)
        case .other where !self.isHTTPOnly:
            next = OpaqueConnection(self.server, self.stream, self.target, hello: .none)
        // It will say what is wrong with it.
        default: next = HTTP1ServerConnection(self.server, self.stream, self.target)
        }
        self.stream.pipe.consumer = next
        return next
    }

    private func becomeOpaque(_ hello: OpaqueConnection.Hello) {
        self.timer = nil
        guard self.begun.isEmpty else { return }
        self.stream.pipe.consumer = OpaqueConnection(self.server, self.stream, self.target, hello: hello)
    }

    func pipeFinished() {
        self.timer?.cancel()
        self.stream.pipe.finish()
    }

    func pipeDrained() {}

    func pipeClosed(reset: Bool) {
        self.timer?.cancel()
        self.timer = nil
    }

    /// HTTP/2's preface, a TLS record, or a method and a space.
    static func look(_ bytes: UnsafeRawBufferPointer) -> Finding {
        guard let first = bytes.first else { return .needsMore }
        if first == 0x16 { return bytes.count < 2 ? .needsMore : bytes[1] == 0x03 ? .tls : .other }
        let preface = HTTP2FrameReader.clientPreface
        let length = min(bytes.count, preface.utf8CodeUnitCount)
        let isPreface = (0..<length).allSatisfy { bytes[$0] == preface.utf8Start[$0] }
        // "PRI * HTTP/2.0" is no request of HTTP/1; before that it could be a method.
        if isPreface { return length >= 14 ? .http2 : .needsMore }
        for index in 0..<min(bytes.count, 33) {
            let octet = bytes[index]
            if octet == 0x20 { return index > 0 ? .http1 : .other }
            let isMethod = (0x41...0x5A).contains(octet) || octet == 0x2D || octet == 0x5F || (0x61...0x7A).contains(octet)
            if !isMethod, !(index == 0 && (octet == 0x0D || octet == 0x0A)) { return .other }
        }
        return bytes.count > 32 ? .other : .needsMore
    }
}
