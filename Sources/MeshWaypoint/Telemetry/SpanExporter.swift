internal import AsyncHTTPClient
package import Logging
internal import MeshTelemetry
internal import NIOCore
internal import Synchronization

/// Sends spans to an OTLP collector over HTTP, in batches. What cannot be delivered is dropped and counted: spans are
/// worth less than the memory that keeping them would take.
package final class SpanExporter: Sendable {
    /// - Returns: the collector's status.
    /// - Throws: when there is none.
    package typealias Post = @Sendable (_ address: String, _ body: [UInt8]) async throws -> Int

    static let timeout = Duration.seconds(10)
    /// After a failure nothing is sent for so long; doubles up to the maximum.
    static let pauseMin = Duration.seconds(1)
    static let pauseMax = Duration.seconds(30)

    package let queue: SpanQueue
    private let collector = Mutex<String?>(nil)
    private let post: Post
    private let resource: [(key: String, value: String)]
    private let version: String
    private let exported, failed: Counter
    private let log: Logger
    private let delay: Duration

    package init(
        _ metrics: ExchangeMetrics, resource: [(key: String, value: String)], version: String, log: Logger,
        delay: Duration = SpanQueue.delay, post: @escaping Post = SpanExporter.http
    ) {
        self.queue = SpanQueue(metrics)
        self.resource = resource
        self.version = version
        self.log = log
        self.delay = delay
        self.post = post
        self.exported = metrics.spans.with(["exported"])
        self.failed = metrics.spans.with(["failed"])
    }

    /// - Parameter collector: `http://host:port/v1/traces`; nil: what is queued is dropped.
    package func send(to collector: String?) { self.collector.withLock { $0 = collector } }

    /// Until cancelled; then what is queued is sent once more, without waiting. To be called once.
    package func run() async {
        var pause = Self.pauseMin
        for await _ in self.queue.signals {
            if self.queue.count < SpanQueue.batchMax { try? await Task.sleep(for: self.delay) }
            while self.queue.count > 0, !Task.isCancelled {
                if await self.sendBatch() {
                    pause = Self.pauseMin
                } else {
                    try? await Task.sleep(for: pause)
                    pause = min(pause * 2, Self.pauseMax)
                }
            }
            if Task.isCancelled { break }
        }
    }

    /// What is queued at the end of the process.
    package func flush() async { while self.queue.count > 0, await self.sendBatch() {} }

    private func sendBatch() async -> Bool {
        let spans = self.queue.take()
        if spans.isEmpty { return true }
        guard let collector = self.collector.withLock({ $0 }) else {
            self.failed.add(UInt64(spans.count))
            return true
        }
        let body = SpanBatch(spans: spans, resource: self.resource, version: self.version).json
        do {
            let status = try await self.post(collector, body)
            guard (200..<300).contains(status) else { throw Refused(status: status) }
            self.exported.add(UInt64(spans.count))
            return true
        } catch {
            self.failed.add(UInt64(spans.count))
            self.log.warning(
                "spans were not delivered; is the collector there, and does it take OTLP as JSON?",
                metadata: ["collector": "\(collector)", "spans": "\(spans.count)", "error": "\(error)"])
            return false
        }
    }

    private struct Refused: Error, CustomStringConvertible {
        let status: Int
        var description: String { "answered \(self.status)" }
    }

    /// With the process's shared client.
    package static let http: Post = { address, body in
        var request = HTTPClientRequest(url: address)
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        request.body = .bytes(ByteBuffer(bytes: body))
        let response = try await HTTPClient.shared.execute(
            request, timeout: .nanoseconds(Int64(SpanExporter.timeout / .nanoseconds(1))))
        // Read, so that the connection can be used again; an answer is a few bytes.
        _ = try await response.body.collect(upTo: 64 << 10)
        return Int(response.status.code)
    }
}
