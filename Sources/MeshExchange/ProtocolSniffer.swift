internal import MeshHTTP
internal import MeshLoop
internal import MeshTunnel

/// Looks at a client's first bytes: which protocol is this?
///
/// A service with routes or policies of HTTP is never opened to a client that says nothing, or something else: that would
/// be a way around them.
final class ProtocolSniffer: PipeConsumer, ServedConnection {
    enum Finding: Hashable { case needsMore, http1, http2, tls, other }

    private let server: ExchangeServer
    private let client: ServedClient
    private let isHTTPOnly: Bool
    private var begun: [UInt8] = []
    private var timer: LoopTimer?

    init(_ server: ExchangeServer, _ client: ServedClient, isHTTPOnly: Bool) {
        self.server = server
        self.client = client
        self.isHTTPOnly = isHTTPOnly
        server.opened(self)
        let timer = LoopTimer(loop: server.loop) { [unowned self] in
            if !self.isHTTPOnly { return self.becomeOpaque() }
            if self.begun.isEmpty { self.giveUp() } else { self.tooSlow() }
        }
        self.timer = timer
        timer.arm(after: isHTTPOnly ? server.configuration.idleTimeout : server.configuration.silenceTimeout)
    }

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.begun.isEmpty {
            // Nearly always it is all there.
            let finding = Self.look(bytes)
            if finding != .needsMore { return self.become(finding).pipeReceived(bytes) }
        }
        let had = self.begun.count
        self.begun.append(contentsOf: bytes)
        let finding = self.begun.withUnsafeBytes { Self.look($0) }
        if finding == .needsMore {
            // Not even the beginning of a head is here.
            if self.isHTTPOnly, had == 0 { self.timer?.arm(after: self.server.configuration.headTimeout) }
            return bytes.count
        }
        let whole = self.begun
        let next = self.become(finding)
        // What was not enough to tell the protocol is not enough for anything else: it is always taken.
        return max(0, whole.withUnsafeBytes { next.pipeReceived($0) } - had)
    }

    private func become(_ finding: Finding) -> any PipeConsumer {
        self.over()
        let next: any PipeConsumer
        switch finding {
        case .http2: next = HTTP2ServerConnection(self.server, self.client)
        case .tls where !self.isHTTPOnly:
            next = OpaqueConnection(self.server, self.client, hello: .expected)
        case .other where !self.isHTTPOnly:
            next = OpaqueConnection(self.server, self.client, hello: .none)
        // It will say what is wrong with it.
        default: next = HTTP1ServerConnection(self.server, self.client)
        }
        self.client.pipe.consumer = next
        (next as? OpaqueConnection)?.start()
        return next
    }

    /// Whoever has said so little for so long waits for the server.
    private func becomeOpaque() {
        let whole = self.begun
        let next = self.become(.other)
        if !whole.isEmpty { _ = whole.withUnsafeBytes { next.pipeReceived($0) } }
    }

    private func giveUp() { (self.become(.other) as? HTTP1ServerConnection)?.close() }

    private func tooSlow() {
        let limit = self.server.configuration.headTimeout
        (self.become(.other) as? HTTP1ServerConnection)?
            .refuse(HTTP1Error(408, "no complete head within \(limit)"), .idleTimeout)
    }

    private func over() {
        self.timer?.cancel()
        self.timer = nil
        self.begun = []
        self.server.closed(self)
    }

    /// Nobody has asked for anything yet, but a new connection is there for a request.
    func drain() {
        guard self.begun.isEmpty, self.isHTTPOnly else { return }
        self.timer?.cancel()
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in self.giveUp() }
        self.timer = timer
        timer.arm(after: self.server.configuration.drainQuiet)
    }

    func pipeFinished() {
        // A request of another protocol may be shorter than any of HTTP.
        if !self.isHTTPOnly { self.becomeOpaque() } else { _ = self.become(.other) }
        self.client.pipe.consumer?.pipeFinished()
    }

    func pipeDrained() {}

    func pipeClosed(reset: Bool) { self.over() }

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
            let isMethod =
                (0x41...0x5A).contains(octet) || octet == 0x2D || octet == 0x5F || (0x61...0x7A).contains(octet)
            if !isMethod, !(index == 0 && (octet == 0x0D || octet == 0x0A)) { return .other }
        }
        return bytes.count > 32 ? .other : .needsMore
    }
}
