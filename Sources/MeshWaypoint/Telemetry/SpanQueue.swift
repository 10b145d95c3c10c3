internal import MeshTelemetry
internal import Synchronization

/// Spans on their way to the collector. Event loops add, one task takes; when it is full, spans are dropped and counted:
/// traffic never waits for tracing.
package final class SpanQueue: Sendable {
    /// Some 1.5 KB each.
    package static let spansMax = 4096
    package static let batchMax = 512
    /// A batch that is not full is sent after so long.
    package static let delay = Duration.seconds(1)

    private let spans = Mutex<[Span]>([])
    private let dropped: Counter
    private let (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    package init(_ metrics: ExchangeMetrics) { self.dropped = metrics.spans.with(["dropped"]) }

    package func add(_ span: Span) {
        let count = self.spans.withLock { spans -> Int in
            guard spans.count < Self.spansMax else { return 0 }
            spans.append(span)
            return spans.count
        }
        switch count {
        case 0: self.dropped.add()
        // The first one starts the clock, a full batch need not wait for it.
        case 1, Self.batchMax: self.wake.yield()
        default: break
        }
    }

    func take() -> [Span] {
        self.spans.withLock { spans in
            let batch = Array(spans.prefix(Self.batchMax))
            spans.removeFirst(batch.count)
            return batch
        }
    }

    package var count: Int { self.spans.withLock { $0.count } }

    /// A span was added to an empty queue, or a batch is full. For one reader.
    var signals: AsyncStream<Void> { self.wakeups }
}
