package import MeshDirectory
internal import MeshExchange
internal import MeshTelemetry
internal import Synchronization

/// Finds the one ``ExchangeSeries`` of a report: a hash of a few words and a comparison, without a text being built.
final class ExchangeTable: SeriesHolder {
    /// Combinations remembered by a shard; more, and all of them are forgotten: counters are never lost, only looked up
    /// again.
    static let seriesMax = 1024
    private static let shardCount = 16

    private struct Known {
        var series: ExchangeSeries
        /// The picture of the mesh that the series was last found right for.
        var picture: UInt64
        /// Requests, as the last look found them.
        var seen: UInt64
    }
    private final class Shard: Sendable {
        let known = Mutex<[ExchangeKey: Known]>([:])
    }

    private let metrics: ExchangeMetrics
    /// Several, so that event loops seldom wait for each other. By client.
    private let shards: [Shard]

    init(_ metrics: ExchangeMetrics) {
        self.metrics = metrics
        self.shards = (0..<Self.shardCount).map { _ in Shard() }
        metrics.budget.add(holder: self)
    }

    /// - Parameter mesh: what the ends are looked up in, once for each picture of the mesh.
    func series(_ report: borrowing ExchangeReport, in mesh: MeshPicture) -> ExchangeSeries {
        let key = ExchangeKey(report)
        let shard = self.shards[Int(truncatingIfNeeded: key.client.low & UInt64(Self.shardCount - 1))]
        let picture = mesh.version
        let found = shard.known.withLock { $0[key].map { ($0.series, $0.picture == picture) } }
        if let (series, isRight) = found, isRight, !series.isOverflow || !self.metrics.budget.hasRoom {
            return series
        }
        let facts = ExchangeFacts(report.ends, in: mesh.state, network: mesh.network)
        if let (series, _) = found, series.facts == facts, !series.isOverflow || !self.metrics.budget.hasRoom {
            shard.known.withLock { $0[key]?.picture = picture }
            return series
        }
        // Outside the lock: when the budget is used up it asks us to let go of something.
        let new = ExchangeSeries(key, facts, self.metrics)
        shard.known.withLock { known in
            if known.count >= Self.seriesMax { known.removeAll(keepingCapacity: true) }
            known[key] = Known(series: new, picture: picture, seen: 0)
        }
        return new
    }

    /// Forgets combinations that nothing was counted under since the last time, so that their series may go.
    func releaseIdle() {
        for shard in self.shards {
            shard.known.withLock { known in
                var idle: [ExchangeKey] = []
                var index = known.startIndex
                while index != known.endIndex {
                    let count = known.values[index].series.requests.value
                    if count == known.values[index].seen { idle.append(known.keys[index]) }
                    known.values[index].seen = count
                    index = known.index(after: index)
                }
                for key in idle { known[key] = nil }
            }
        }
    }

    /// How many combinations are remembered.
    var count: Int { self.shards.reduce(0) { $0 + $1.known.withLock { $0.count } } }
}

/// One immutable picture of the mesh's addresses, by whose number caches know whether they are still right.
package final class MeshPicture: Sendable {
    package let state: MeshState
    package let network: String
    /// Unique in the process.
    let version = MeshPicture.versions.add(1, ordering: .relaxed).newValue

    private static let versions = Atomic<UInt64>(0)

    package init(state: MeshState, network: String) {
        self.state = state
        self.network = network
    }
}
