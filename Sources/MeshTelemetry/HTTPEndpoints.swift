public import NIOCore
internal import NIOHTTP1
internal import NIOHTTPCompression
internal import NIOPosix

/// A request to one of a role's own ports: health, metrics, admin.
public struct EndpointRequest: Sendable {
    public var method: String
    /// Without the query.
    public var path: String
    /// In order, percent-decoded; `?reset` has no value.
    public var query: [(name: String, value: String?)]
    /// Lower-case names.
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]
    /// It came over the loopback device.
    public var isFromThisMachine = false

    public init(
        method: String, path: String, query: [(name: String, value: String?)] = [],
        headers: [(name: String, value: String)] = [], body: [UInt8] = []
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
    }

    public func header(_ name: String) -> String? { self.headers.first { $0.name == name }?.value }
}

public struct EndpointAnswer: Sendable {
    public var status: Int
    public var contentType: String
    public var body: [UInt8]

    public init(status: Int = 200, contentType: String = "text/plain; charset=utf-8", body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    public static func text(_ text: String, status: Int = 200) -> Self { Self(status: status, body: Array(text.utf8)) }
    public static func json(_ bytes: [UInt8]) -> Self { Self(contentType: "application/json", body: bytes) }
}

/// What a server does about one path.
public struct EndpointRoute: Sendable {
    public var path: String
    /// Whether paths below this one are meant too.
    public var coversBelow = false
    /// Empty: any.
    public var methods: Set<String>
    /// The text of 405 when another method is used.
    public var usage: String
    public var answer: @Sendable (EndpointRequest) async throws -> EndpointAnswer

    public init(
        _ path: String, coversBelow: Bool = false, methods: Set<String> = [], usage: String = "method not allowed\n",
        answer: @escaping @Sendable (EndpointRequest) async throws -> EndpointAnswer
    ) {
        self.path = path
        self.coversBelow = coversBelow
        self.methods = methods
        self.usage = usage
        self.answer = answer
    }

    func covers(_ path: String) -> Bool {
        path == self.path || (self.coversBelow && path.hasPrefix(self.path + "/"))
    }
}

extension [EndpointRoute] {
    /// 404 for an unknown path, 405 for a wrong method, 500 with the text of an error.
    package func answer(_ request: EndpointRequest) async -> EndpointAnswer {
        guard let route = self.first(where: { $0.covers(request.path) }) else {
            return .text("not found\n", status: 404)
        }
        guard route.methods.isEmpty || route.methods.contains(request.method) else {
            return .text(route.usage, status: 405)
        }
        do {
            return try await route.answer(request)
        } catch {
            return .text("\(error)\n", status: 500)
        }
    }
}

/// A small HTTP/1.1 server with a table of routes. Bodies are bounded, slow clients are cut off.
public final class HTTPEndpoints: Sendable {
    /// How much and how long one client may.
    public struct Limits: Hashable, Sendable {
        /// From connecting to the last byte of the first request.
        public var headTimeout = TimeAmount.seconds(2)
        public var bodyBytesMax = 64 << 10
        public init() {}
    }
    /// Between two requests of one connection.
    static let idleTimeout = TimeAmount.seconds(60)
    static let backlogMax: CInt = 128

    /// Shorter bodies fit into a packet as they are.
    static let compressedBytesMin = 1024

    /// gzip or deflate for those who take it; of the reference's codings br and zstd are not spoken, and who asks for
    /// those only gets the text as it is, as HTTP allows (RFC 9110, 12.5.3).
    private static func compressor() -> HTTPResponseCompressor {
        HTTPResponseCompressor { headers, isPossible in
            let length = headers.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
            return isPossible && length >= Self.compressedBytesMin ? .compressIfPossible : .doNotCompress
        }
    }

    private let channels: [any Channel]

    private init(channels: [any Channel]) { self.channels = channels }

    public struct Address: Hashable, Sendable, CustomStringConvertible {
        public var host: String
        /// 0 takes a free one; see ``HTTPEndpoints/ports``.
        public var port: Int
        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
        public var description: String {
            self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
        }
    }

    /// Binds all addresses or none.
    /// - Parameter prepare: called with each new connection before HTTP: adds TLS.
    /// - Throws: ``EndpointBindError``, naming the address.
    public static func bind(
        _ addresses: [Address], routes: [EndpointRoute], group: any EventLoopGroup, limits: Limits = Limits(),
        prepare: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) async throws -> HTTPEndpoints {
        var channels: [any Channel] = []
        for address in addresses {
            let bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(ChannelOptions.backlog, value: Self.backlogMax)
                .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try prepare(channel)
                        try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                        try channel.pipeline.syncOperations.addHandler(Self.compressor())
                        try channel.pipeline.syncOperations.addHandler(EndpointHandler(routes: routes, limits: limits))
                    }
                }
            do {
                channels.append(try await bootstrap.bind(host: address.host, port: address.port).get())
            } catch {
                for channel in channels { try? await channel.close() }
                throw EndpointBindError(address: address, reason: "\(error)")
            }
        }
        return HTTPEndpoints(channels: channels)
    }

    /// In the order of the addresses.
    public var ports: [Int] { self.channels.map { $0.localAddress?.port ?? 0 } }

    /// Stops accepting. Running requests end by themselves.
    public func close() async { for channel in self.channels { try? await channel.close() } }
}

public struct EndpointBindError: Error, CustomStringConvertible {
    public let address: HTTPEndpoints.Address
    public let reason: String
    public var description: String {
        "cannot listen on \(self.address): \(self.reason); does another process use the port?"
    }
}
