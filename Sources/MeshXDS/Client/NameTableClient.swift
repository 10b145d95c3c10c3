package import Logging
package import MeshDNS
package import MeshProto

/// Follows the control plane's table of names, for a sidecar's agent: one delta stream of one type, opened again whenever it
/// ends. What was told last stays in force while the control plane is away.
package struct NameTableClient: Sendable {
    private let configuration: XDSClientConfiguration
    private let logger: Logger
    private let apply: @Sendable (NameTable?) -> Void

    /// - Parameters:
    ///   - configuration: the node id and the token have to be the pod's own, as beside Envoy.
    ///   - apply: called for every table, one after the other; nil: the control plane has none for us any more.
    package init(
        _ configuration: XDSClientConfiguration, logger: Logger, apply: @escaping @Sendable (NameTable?) -> Void
    ) {
        self.configuration = configuration
        self.logger = logger
        self.apply = apply
    }

    /// Returns when the task is cancelled, and never before.
    package func run() async {
        let holder = Holder()
        var backoff = ReconnectBackoff()
        var attempt = 0
        let names = self.configuration.endpoint.serverNames
        while !Task.isCancelled {
            let end = await self.configuration.withStream(
                serverName: names[attempt % names.count], self.logger
            ) { channel, metadata, opened in
                // Holds at most one answer per response read: the next is read when the answer is in.
                let (requests, outbox) = AsyncStream.makeStream(of: HeldNameTable.Request.self)
                outbox.yield(await holder.first(self.configuration.node))
                let client = Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Client(wrapping: channel)
                try await client.deltaAggregatedResources(metadata: metadata, options: XDSClientConfiguration.options) {
                    writer in
                    for await request in requests { try await writer.write(request) }
                } onResponse: { response in
                    defer { outbox.finish() }
                    for try await message in response.messages {
                        await opened.set()
                        outbox.yield(await self.receive(message, holder))
                    }
                }
            }
            // The other name gets its turn only when this one led nowhere.
            if end == .notOpened { attempt += 1 }
            try? await Task.sleep(for: backoff.wait(after: end))
        }
    }

    private func receive(_ response: HeldNameTable.Response, _ holder: Holder) async -> HeldNameTable.Request {
        let outcome = await holder.receive(response)
        switch outcome.change {
        case .nothing: break
        case .table(let table): self.apply(table)
        case .gone: self.apply(nil)
        }
        if outcome.answer.hasErrorDetail {
            self.logger.error("refused the table of names", metadata: ["why": "\(outcome.answer.errorDetail.message)"])
        }
        return outcome.answer
    }

    /// What outlives one stream.
    private actor Holder {
        private var held = HeldNameTable()
        func first(_ node: Envoy_Service_Discovery_V3_Node) -> HeldNameTable.Request { self.held.first(node) }
        func receive(
            _ response: HeldNameTable.Response
        ) -> (change: HeldNameTable.Change, answer: HeldNameTable.Request) { self.held.receive(response) }
    }
}

/// Which table a client holds, and what it answers. No I/O.
package struct HeldNameTable {
    package typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    package typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    package enum Change: Hashable, Sendable { case nothing, table(NameTable), gone }

    /// By the server's name for it, which is one for all tables, the version accepted last.
    private var versions: [String: String] = [:]

    package init() {}

    /// The first request of a stream.
    package func first(_ node: Envoy_Service_Discovery_V3_Node) -> Request {
        .with {
            $0.node = node
            $0.typeURL = XDSType.names
            $0.initialResourceVersions = self.versions
        }
    }

    /// A table that cannot be read is refused, and the one before stays in force.
    package mutating func receive(_ response: Response) -> (change: Change, answer: Request) {
        var answer = Request.with {
            $0.typeURL = response.typeURL
            $0.responseNonce = response.nonce
        }
        // A type that nobody asked for is acknowledged and forgotten.
        guard response.typeURL == XDSType.names else { return (.nothing, answer) }
        var change = Change.nothing
        for name in response.removedResources where self.versions.removeValue(forKey: name) != nil { change = .gone }
        // A server that forgot the one before does not say that it is gone.
        if let resource = response.resources.last {
            do throws(RejectedResource) {
                change = .table(try NameTable(resource))
                self.versions = [resource.name: resource.version]
            } catch {
                answer.errorDetail.message = error.description
            }
        }
        return (change, answer)
    }
}
