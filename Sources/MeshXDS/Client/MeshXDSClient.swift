import GRPCCore
public import Logging
import MeshChannel
import MeshProto
import SwiftProtobuf

/// Follows the control plane: one delta stream for workloads, services and policies, opened again whenever it ends.
///
/// State is kept across streams: a new one starts by saying what is held, and the server answers with the
/// difference, removals included. Nothing expires while the control plane is away.
public struct MeshXDSClient: Sendable {
    private let configuration: XDSClientConfiguration
    private let sink: any MeshStateSink
    private let logger: Logger
    private let demands: MeshDemands?
    /// Of a waypoint; the same as `sink`.
    private let waypoint: (any WaypointSink)?

    /// The whole mesh may come in one message.
    static let messageBytesMax = 200 << 20

    /// - Parameter demands: with it workloads and services come only when they are demanded, besides those of our own
    ///   node; nil: all of them. Policies always come all.
    public init(
        _ configuration: XDSClientConfiguration, sink: any MeshStateSink, logger: Logger, demands: MeshDemands? = nil
    ) {
        self.configuration = configuration
        self.sink = sink
        self.logger = logger
        self.demands = demands
        self.waypoint = nil
    }

    /// The client of a waypoint: all addresses, the rules of the services that it serves, and its own. Its node
    /// metadata has to name its Gateway (`GATEWAY_NAME`), and its token has to be of the Gateway's service account.
    package init(_ configuration: XDSClientConfiguration, waypoint: any WaypointSink, logger: Logger) {
        self.configuration = configuration
        self.sink = waypoint
        self.logger = logger
        self.demands = nil
        self.waypoint = waypoint
    }

    /// Returns when the task is cancelled, and never before.
    public func run() async {
        let session = Session(self.configuration, self.sink, self.logger, self.demands, self.waypoint)
        var backoff = ReconnectBackoff()
        var attempt = 0
        let names = self.configuration.endpoint.serverNames
        while !Task.isCancelled {
            let end = await session.follow(serverName: names[attempt % names.count])
            // The other name gets its turn only when this one led nowhere.
            if end == .notOpened { attempt += 1 }
            let wait = backoff.wait(after: end)
            self.logger.debug("xDS stream ended", metadata: ["end": "\(end)", "next": "\(wait)"])
            try? await Task.sleep(for: wait)
        }
    }
}

extension MeshXDSClient {
    /// Everything that outlives one stream.
    fileprivate actor Session {
        private let configuration: XDSClientConfiguration
        private let sink: any MeshStateSink
        private let logger: Logger
        private let demands: MeshDemands?
        private let waypoint: (any WaypointSink)?
        private var known: KnownResources
        private var saidSynced = false

        init(
            _ configuration: XDSClientConfiguration, _ sink: any MeshStateSink, _ logger: Logger,
            _ demands: MeshDemands?, _ waypoint: (any WaypointSink)?
        ) {
            self.configuration = configuration
            self.sink = sink
            self.logger = logger
            self.demands = demands
            self.waypoint = waypoint
            self.known = KnownResources(waypoint == nil ? .nodeProxy : .waypoint, isOnDemand: demands != nil)
        }

        typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
        typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

        func follow(serverName: String) async -> ReconnectBackoff.StreamEnd {
            let opened = Flag()
            do {
                let metadata = try self.configuration.endpoint.metadata()
                try await self.configuration.endpoint.withChannel(
                    serverName: serverName,
                    keptRoots: { [logger] in
                        logger.warning(
                            "the control plane's root file cannot be used; the roots it had before are",
                            metadata: ["why": "\($0)"])
                    }
                ) { channel in
                    try await self.stream(channel, metadata, opened)
                }
                // An end before the first answer is no clean one: asking again at once could go on for ever.
                return await opened.isSet ? .clean : .notOpened
            } catch {
                self.logger.warning(
                    "xDS stream failed",
                    metadata: [
                        "server": "\(self.configuration.endpoint.host):\(self.configuration.endpoint.port)",
                        "error": "\(error)",
                    ])
                if await !opened.isSet { return .notOpened }
                switch (error as? RPCError)?.code {
                case .unknown, .cancelled, .deadlineExceeded, .unavailable: return .interrupted
                case .some: return .refused
                case nil: return .clean
                }
            }
        }

        private nonisolated func stream(
            _ channel: GRPCClient<ControlPlaneEndpoint.Transport>, _ metadata: Metadata, _ opened: Flag
        ) async throws {
            // Holds at most one answer per response read, because the next is read only after the answer is in; and
            // demands, each key of which is said once.
            let (requests, outbox) = AsyncStream.makeStream(of: Request.self)
            let demanded = self.demands?.open()
            for request in await self.firstRequests(demanded?.keys) { outbox.yield(request) }
            var options = CallOptions.defaults
            options.waitForReady = false
            options.maxResponseMessageBytes = MeshXDSClient.messageBytesMax
            // The transport (2.x) judges responses by the bound of requests, 4 MiB unless set.
            options.maxRequestMessageBytes = MeshXDSClient.messageBytesMax
            let client = Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Client(wrapping: channel)
            try await client.deltaAggregatedResources(metadata: metadata, options: options) { writer in
                for await request in requests { try await writer.write(request) }
            } onResponse: { response in
                defer { outbox.finish() }
                try await withThrowingTaskGroup(of: Void.self) { tasks in
                    if let demanded {
                        tasks.addTask {
                            for await _ in demanded.signals {
                                if let request = self.demandRequest() { outbox.yield(request) }
                            }
                        }
                    }
                    for try await message in response.messages {
                        await opened.set()
                        outbox.yield(await self.receive(consume message))
                    }
                    tasks.cancelAll()
                }
            }
        }

        /// - Parameter demanded: on demand: every key that was answered; nil: all addresses are wanted.
        private func firstRequests(_ demanded: [String]?) -> [Request] {
            self.known.types.map { type in
                .with {
                    $0.node = self.node
                    $0.typeURL = type
                    $0.initialResourceVersions = self.known.initialVersions(type)
                    guard type == XDSType.address, let demanded else { return }
                    // From all to none: what is wanted is then named.
                    $0.resourceNamesSubscribe = ["*"]
                    $0.resourceNamesUnsubscribe = ["*"]
                    // Without a version: whatever it is called, it is answered again.
                    for key in demanded where $0.initialResourceVersions[key] == nil {
                        $0.initialResourceVersions[key] = ""
                    }
                }
            }
        }

        private nonisolated func demandRequest() -> Request? {
            self.demands?.takeRequest().map { names in
                .with {
                    $0.typeURL = XDSType.address
                    $0.resourceNamesSubscribe = names.subscribe
                    $0.resourceNamesUnsubscribe = names.unsubscribe
                }
            }
        }

        private var node: Envoy_Service_Discovery_V3_Node {
            .with {
                $0.id = self.configuration.nodeID
                $0.metadata = Google_Protobuf_Struct(fields: self.configuration.metadata.mapValues(\.proto))
            }
        }

        private func receive(_ response: consuming Response) async -> Request {
            var answer = Request()
            answer.typeURL = response.typeURL
            answer.responseNonce = response.nonce
            // The response is consumed below; only names are kept of it, and only if somebody asks.
            let asksForAddresses = self.demands != nil && answer.typeURL == XDSType.address
            let named = asksForAddresses ? response.resources.map { ($0.name, $0.aliases) } : []
            let removed = asksForAddresses ? response.removedResources : []
            let outcome = self.known.receive(consume response)
            if let update = outcome.update { await self.sink.apply(update) }
            if let rules = outcome.rules { await self.waypoint?.apply(rules) }
            if asksForAddresses, let demands {
                // A resource that was refused answers nothing: whoever waits for it must not take it for absent.
                let refused = Set(outcome.rejected.map(\.name))
                let good = named.filter { !refused.contains($0.0) }
                let change = demands.answered(good.flatMap { [$0.0] + $0.1 } + removed)
                if !change.isEmpty {
                    await self.sink.demandsChanged(answered: change.answered, forgotten: change.forgotten)
                }
            }
            if self.known.isSynced, !self.saidSynced {
                self.saidSynced = true
                await self.sink.synced()
            }
            if !outcome.rejected.isEmpty {
                let reasons = outcome.rejected.map(\.description).joined(separator: "; ")
                self.logger.error("refused resources", metadata: ["type": "\(answer.typeURL)", "why": "\(reasons)"])
                answer.errorDetail.message = reasons
            }
            return answer
        }
    }

    fileprivate actor Flag {
        private(set) var isSet = false
        func set() { self.isSet = true }
    }
}

extension MetadataValue {
    var proto: Google_Protobuf_Value {
        switch self {
        case .null: .with { $0.nullValue = .nullValue }
        case .bool(let value): Google_Protobuf_Value(boolValue: value)
        case .number(let value): Google_Protobuf_Value(numberValue: value)
        case .string(let value): Google_Protobuf_Value(stringValue: value)
        case .list(let values):
            Google_Protobuf_Value(listValue: Google_Protobuf_ListValue(values: values.map(\.proto)))
        case .object(let members):
            Google_Protobuf_Value(structValue: Google_Protobuf_Struct(fields: members.mapValues(\.proto)))
        }
    }
}
