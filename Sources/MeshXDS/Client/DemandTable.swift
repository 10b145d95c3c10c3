/// What an on-demand client has asked for by name, and which of it was answered. No I/O.
///
///     unknown ─demanded─▶ asked ─answered─▶ answered, kept up to date by the server ─too many─▶ forgotten = unknown
///
/// A key is `<network>/<ip>`, a workload's uid, or `<namespace>/<hostname>`. Both lists are bounded, and the oldest
/// make room: a key that nobody ever answers keeps no other from being asked.
package struct DemandTable {
    /// Keys that wait for an answer.
    package static let askedMax = 4096
    /// Keys that were answered. Together with what they brought they stay far below what a server lets one client name.
    package static let answeredMax = 20_000

    /// By key: when it was demanded or answered, in steps.
    private var asked: [String: UInt64] = [:]
    private var answered: [String: UInt64] = [:]
    private var steps: UInt64 = 0
    private var subscribe: [String] = []
    private var unsubscribe: Set<String> = []

    package struct Change: Equatable {
        package var answered: [String] = []
        /// No longer kept up to date.
        package var forgotten: [String] = []
        package var isEmpty: Bool { self.answered.isEmpty && self.forgotten.isEmpty }
    }

    package init() {}

    package mutating func demand(_ key: String) {
        guard self.asked[key] == nil, self.answered[key] == nil else { return }
        self.steps += 1
        self.asked[key] = self.steps
        self.subscribe.append(key)
        self.unsubscribe.remove(key)
        if self.asked.count > Self.askedMax { _ = self.dropOldest(\.asked) }
    }

    /// A response was stored that has these names and aliases, or says that nothing has them.
    package mutating func answered(_ names: some Sequence<String>) -> Change {
        var change = Change()
        for name in names where self.asked.removeValue(forKey: name) != nil {
            self.steps += 1
            self.answered[name] = self.steps
            change.answered.append(name)
        }
        if self.answered.count > Self.answeredMax {
            change.forgotten = self.dropOldest(\.answered)
            let forgotten = Set(change.forgotten)
            change.answered.removeAll(where: forgotten.contains)
        }
        return change
    }

    /// An eighth at once, so that a full list is not sorted for each newcomer.
    private mutating func dropOldest(_ list: WritableKeyPath<Self, [String: UInt64]>) -> [String] {
        let oldest = self[keyPath: list].sorted { $0.value < $1.value }.prefix(self[keyPath: list].count / 8 + 1)
        let keys = oldest.map(\.key)
        for key in keys { self[keyPath: list][key] = nil }
        let dropped = Set(keys)
        self.subscribe.removeAll(where: dropped.contains)
        self.unsubscribe.formUnion(dropped)
        return keys
    }

    /// What is still to be said on an open stream; nil when that is nothing.
    package mutating func takeRequest() -> (subscribe: [String], unsubscribe: [String])? {
        if self.subscribe.isEmpty, self.unsubscribe.isEmpty { return nil }
        defer { (self.subscribe, self.unsubscribe) = ([], []) }
        return (self.subscribe, self.unsubscribe.sorted())
    }

    /// What a new stream begins with: everything that was answered. What was not is subscribed to afterwards: a first
    /// request says which versions are held, and what is held is not sent again, although its key has no answer yet.
    package mutating func startOver() -> [String] {
        self.subscribe = self.asked.sorted { $0.value < $1.value }.map(\.key)
        self.unsubscribe = []
        return Array(self.answered.keys)
    }
}
