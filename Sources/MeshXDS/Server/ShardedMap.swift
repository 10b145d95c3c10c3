/// A dictionary in many parts. A copy shares all of them, and a change afterwards copies one part instead of all:
/// snapshots are held by clients while the next one is made.
struct ShardedMap<Value: Sendable>: Sendable {
    /// At 100 000 elements a part has 200: copying one costs microseconds.
    private static var partCount: Int { 512 }
    fileprivate var parts = [[String: Value]](repeating: [:], count: Self.partCount)
    fileprivate(set) var count = 0

    init() {}

    fileprivate static func part(_ key: String) -> Int { key.hashValue & (Self.partCount - 1) }

    subscript(key: String) -> Value? {
        get { self.parts[Self.part(key)][key] }
        set {
            if let newValue { self.replace(key, newValue) } else { self.remove(key) }
        }
    }

    /// The value that was there before.
    @discardableResult
    mutating func replace(_ key: String, _ value: Value) -> Value? {
        let old = self.parts[Self.part(key)].updateValue(value, forKey: key)
        if old == nil { self.count += 1 }
        return old
    }

    @discardableResult
    mutating func remove(_ key: String) -> Value? {
        let old = self.parts[Self.part(key)].removeValue(forKey: key)
        if old != nil { self.count -= 1 }
        return old
    }

    /// In no particular order.
    var values: some Sequence<Value> { self.parts.lazy.flatMap { $0.values } }
}

extension ShardedMap where Value == Set<String> {
    mutating func insert(_ member: String, under key: String) {
        let part = Self.part(key)
        if self.parts[part][key]?.insert(member) == nil {
            self.parts[part][key] = [member]
            self.count += 1
        }
    }

    mutating func remove(_ member: String, under key: String) {
        let part = Self.part(key)
        self.parts[part][key]?.remove(member)
        if self.parts[part][key]?.isEmpty == true { self.remove(key) }
    }
}
