import AsyncHTTPClient
import Foundation
import KubeAPI
package import Logging
import NIOCore

/// Fetches issuers' keys and keeps them fresh, so that no waypoint has to: every waypoint has the same keys at the same
/// time, and one that starts while an issuer is away has them all the same.
///
/// What was fetched last stays in force when a fetch fails. Replicas fetch each for themselves.
package actor KeySetFetcher {
    /// Between two fetches, unless the answer says a shorter time (`cache-control: max-age`).
    static let interval = Duration.seconds(20 * 60)
    static let intervalMin = Duration.seconds(60)
    /// After a failure, doubled up to ``intervalMin``.
    static let retryMin = Duration.seconds(1)
    /// For one answer, where a rule does not say.
    static let timeout = Duration.seconds(5)
    static let timeoutMax = Duration.seconds(60)
    /// As much as a waypoint takes of one key set.
    static let answerBytesMax = 1 << 20
    static let sourcesMax = 1024

    /// The key set of a source, or nil when nobody wants it any more.
    package typealias Delivery = @Sendable (_ key: String, _ keys: String?) async -> Void

    private let logger: Logger
    private let client: HTTPClient
    private let deliver: Delivery
    private var wanted: [String: WantedKeys] = [:]
    private var tasks: [String: Task<Void, Never>] = [:]

    package init(logger: Logger, deliver: @escaping Delivery) {
        self.logger = logger
        self.deliver = deliver
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .follow(max: 3, allowCycles: false)
        configuration.timeout.connect = .seconds(5)
        configuration.connectionPool.idleTimeout = .seconds(5)
        self.client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    /// Nil: no longer.
    package func want(_ key: String, _ keys: WantedKeys?) async {
        if self.wanted[key] == keys { return }
        self.tasks.removeValue(forKey: key)?.cancel()
        guard let keys else {
            self.wanted[key] = nil
            await self.deliver(key, nil)
            return
        }
        guard self.wanted.count < Self.sourcesMax || self.wanted[key] != nil else {
            self.logger.error(
                "keys are not fetched: more than \(Self.sourcesMax) sources", metadata: ["source": "\(keys.source)"])
            return
        }
        self.wanted[key] = keys
        self.tasks[key] = Task { await self.follow(key, keys) }
    }

    /// After this nothing is fetched or delivered.
    package func stop() async {
        for task in self.tasks.values { task.cancel() }
        for task in self.tasks.values { await task.value }
        self.tasks = [:]
        try? await self.client.shutdown()
    }

    private func follow(_ key: String, _ wanted: WantedKeys) async {
        var last: String?
        var retry = Self.retryMin
        while !Task.isCancelled {
            let wait: Duration
            do {
                let (keys, lifetime) = try await self.fetch(wanted)
                if Task.isCancelled { return }
                if keys != last {
                    last = keys
                    await self.deliver(key, keys)
                }
                retry = Self.retryMin
                wait = min(max(lifetime ?? Self.interval, Self.intervalMin), Self.interval)
            } catch {
                if Task.isCancelled { return }
                self.logger.warning(
                    "cannot fetch an issuer's keys",
                    metadata: [
                        "source": "\(wanted.source)", "why": "\(error)",
                        "effect": last == nil ? "its tokens are refused" : "the keys fetched last stay in force",
                    ])
                wait = retry
                retry = min(retry * 2, Self.intervalMin)
            }
            try? await Task.sleep(for: wait)
        }
    }

    private func fetch(_ wanted: WantedKeys) async throws -> (keys: String, lifetime: Duration?) {
        let address: String
        switch wanted.source {
        case .address(let url): address = url
        case .discovery(let issuer):
            let base = issuer.hasSuffix("/") ? String(issuer.dropLast()) : issuer
            let url = base + "/.well-known/openid-configuration"
            let text = try await self.get(url, wanted.timeout).text
            guard let found = (try? JSONValue(parsing: text))?["jwks_uri"]?.string,
                found.hasPrefix("http://") || found.hasPrefix("https://")
            else { throw Failure("\(url) names no jwks_uri") }
            address = found
        }
        let answer = try await self.get(address, wanted.timeout)
        guard KeySet.isReadable(answer.text) else { throw Failure("\(address) is no JSON Web Key Set") }
        return (answer.text, answer.lifetime)
    }

    private func get(_ url: String, _ timeout: Duration) async throws -> (text: String, lifetime: Duration?) {
        var request = HTTPClientRequest(url: url)
        request.headers.add(name: "accept", value: "application/json")
        let nanoseconds = timeout.components.seconds * 1_000_000_000 + timeout.components.attoseconds / 1_000_000_000
        let response = try await self.client.execute(request, timeout: .nanoseconds(nanoseconds))
        guard response.status == .ok else { throw Failure("\(url) answered \(response.status.code)") }
        let body = try await response.body.collect(upTo: Self.answerBytesMax)
        guard let text = String(validating: body.readableBytesView, as: UTF8.self) else {
            throw Failure("\(url) is no text")
        }
        return (text, Self.lifetime(response.headers["cache-control"].joined(separator: ",")))
    }

    /// `max-age` (RFC 9111, 5.2.2.1).
    static func lifetime(_ header: String) -> Duration? {
        for directive in header.lowercased().split(separator: ",") {
            let parts = directive.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, parts[0].filter({ $0 != " " }) == "max-age",
                let seconds = Int64(parts[1].filter { $0.isASCII && $0.isNumber }), seconds < 1_000_000_000
            else { continue }
            return .seconds(seconds)
        }
        return nil
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }
}
