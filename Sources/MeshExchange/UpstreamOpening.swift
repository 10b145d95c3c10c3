internal import MeshIdentity
internal import MeshLoop
internal import MeshModel
internal import MeshTunnel

/// Makes one connection to an endpoint: looks up its name where it is known by one, then tries the addresses, one after the
/// other. Called on the loop.
///
///     looking up ─addresses─▶ connecting ─connected─▶ over
///         │                    │  ▲  │ failed
///         └─none──▶ over ◀─none┘  └──┘                 any of them ─cancelled─▶ over
final class UpstreamOpening: PipeConsumer {
    /// Of one name, for one connection.
    static let addressesTriedMax = 3

    struct Opened {
        /// Has no consumer yet.
        var channel: any ByteChannel
        var peer: UpstreamPeer
    }

    private let server: ExchangeServer
    private let dialer: any UpstreamDialer
    private let endpoint: UpstreamEndpoint
    private let client: IPEndpoint?
    /// Until the end.
    private var done: ((Result<Opened, UpstreamTrouble>) -> Void)?
    private var targets: [UpstreamTarget] = []
    /// Being connected.
    private var channel: (any ByteChannel)?

    /// - Parameters:
    ///   - client: on whose behalf alone the connection is made; nil: it will serve several.
    ///   - done: called once, unless ``cancel()`` is before.
    init(
        _ endpoint: UpstreamEndpoint, _ server: ExchangeServer, _ dialer: any UpstreamDialer, client: IPEndpoint?,
        done: @escaping (Result<Opened, UpstreamTrouble>) -> Void
    ) {
        self.endpoint = endpoint
        self.server = server
        self.dialer = dialer
        self.client = client
        self.done = done
    }

    func start() {
        guard let host = self.endpoint.key.host else {
            self.targets = [self.endpoint.target]
            return self.dial(after: nil)
        }
        self.dialer.resolve(host) { [self] answer in
            guard self.done != nil else { return }
            switch answer {
            case .success(let addresses):
                let all = self.endpoint.targets(addresses, random: self.server.book.random())
                self.targets = Array(all.prefix(Self.addressesTriedMax))
                self.dial(after: UpstreamTrouble(.unresolved, "no address of \(host) may be used", isUntouched: true))
            case .failure(let why): self.end(.failure(UpstreamTrouble(.unresolved, "\(why)", isUntouched: true)))
            }
        }
    }

    /// Gives it up: `done` is not called any more.
    func cancel() {
        self.done = nil
        self.targets = []
        let channel = self.channel
        self.channel = nil
        channel?.consumer = nil
        channel?.reset()
    }

    private func end(_ result: Result<Opened, UpstreamTrouble>) {
        let done = self.done
        self.done = nil
        self.targets = []
        self.channel = nil
        done?(result)
    }

    /// - Parameter trouble: why the last one was none.
    private func dial(after trouble: UpstreamTrouble?) {
        guard !self.targets.isEmpty else {
            let none = UpstreamTrouble(.connect, "the endpoint has no address", isUntouched: true)
            return self.end(.failure(trouble ?? none))
        }
        let target = self.targets.removeFirst()
        if let route = target.route {
            let pipe = PipeEnd(loop: self.server.loop, consumer: self)
            self.channel = pipe
            self.dialer.open(self.told(route), pipe) { [self] result in
                guard self.channel === pipe else { return }
                pipe.consumer = nil
                switch result {
                case .success(let identity): self.connected(pipe, target.address, identity)
                case .failure(let failure):
                    self.channel = nil
                    pipe.end(reset: true)
                    self.failed(failure.description)
                }
            }
        } else {
            do {
                self.channel = try self.dialer.connect(to: target.address) { [self] reason in
                    guard let channel = self.channel else { return }
                    if let reason {
                        self.channel = nil
                        self.failed("\(target.address): \(reason)")
                    } else {
                        self.connected(channel, target.address, nil)
                    }
                }
            } catch { self.failed("\(target.address): \(error)") }
        }
    }

    /// With the client, where the peer may know it (RFC 7239).
    private func told(_ route: TunnelRoute) -> TunnelRoute {
        guard let client else { return route }
        func named(_ headers: [(name: String, value: String)]) -> [(name: String, value: String)] {
            let part = "for=\"\(client)\""
            guard let index = headers.firstIndex(where: { $0.name == "forwarded" }) else {
                return headers + [("forwarded", part)]
            }
            var headers = headers
            headers[index].value = "\(part);\(headers[index].value)"
            return headers
        }
        var route = route
        route.headers = named(route.headers)
        if let inner = route.inner { route.inner?.headers = named(inner.headers) }
        return route
    }

    private func connected(_ channel: any ByteChannel, _ address: IPEndpoint, _ identity: WorkloadIdentity?) {
        self.end(.success(Opened(channel: channel, peer: UpstreamPeer(address: address, identity: identity))))
    }

    private func failed(_ reason: String) {
        guard self.done != nil else { return }
        self.dial(after: UpstreamTrouble(.connect, reason, isUntouched: true))
    }

    // MARK: The pipe, before its stream is answered

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int { 0 }
    func pipeFinished() {}
    func pipeDrained() {}

    func pipeClosed(reset: Bool) {
        guard self.channel != nil else { return }
        self.channel = nil
        self.targets = []
        self.failed("the connection was ended while it was made")
    }
}
