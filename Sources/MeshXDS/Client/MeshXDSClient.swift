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
            await self.configuration.withStream(serverName: serverName, self.logger) { channel, metadata, opened in
                try await self.stream(channel, metadata, opened)
            }
        }

        private nonisolated func stream(
            _ channel: GRPCClient<ControlPlaneEndpoint.Transport>, _ metadata: Metadata, _ opened: XDSStreamFlag
        ) async throws {
            // Holds at most one answer per response read, because the next is read only after the answer is in; and
            // demands, each key of which is said once.
            let (requests, outbox) = AsyncStream.makeStream(of: Request.self)
            let demanded = self.demands?.open()
            for request in await self.firstRequests(demanded?.keys) { outbox.yield(request) }
            let client = Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Client(wrapping: channel)
            try await client.deltaAggregatedResources(metadata: metadata, options: XDSClientConfiguration.options) {
                writer in
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
                    $0.node = self.configuration.node
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
}
