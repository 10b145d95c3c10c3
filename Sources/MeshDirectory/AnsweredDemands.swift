internal import Collections

/// On demand: which keys the control plane has answered, so that nothing found under one means that nothing is there.
/// A value that is cheap to copy and to change after it was copied.
package struct AnsweredDemands: Sendable {
    private var keys: TreeSet<String> = []

    package init() {}

    package mutating func change(answered: [String], forgotten: [String]) {
        for key in answered { self.keys.insert(key) }
        for key in forgotten { self.keys.remove(key) }
    }

    package func contains(_ key: String) -> Bool { self.keys.contains(key) }
}
