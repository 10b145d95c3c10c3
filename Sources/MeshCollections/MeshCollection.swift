/// Elements by key, with the changes of the current round. Made by a ``Graph``.
public class MeshCollection<Value: Equatable>: Node {
    public struct Change {
        public let key: String
        public let old: Value?
        public let new: Value?
    }

    fileprivate(set) var elements: [String: Value] = [:]
    /// By key, the value at the start of the round.
    private var before: [String: Value?] = [:]
    private var observers: [([Change]) -> Void] = []
    private var indexes: [any IndexUpdating<Value>] = []
    private var tokens: Set<Token>?
    private var netChanges: [Change]?

    init() {}

    public subscript(key: String) -> Value? { self.elements[key] }
    public var count: Int { self.elements.count }
    public var all: [String: Value] { self.elements }

    /// Called once per ``Graph/settle()`` in which something changed; changes are ordered by key.
    public func observe(_ observer: @escaping ([Change]) -> Void) { self.observers.append(observer) }

    /// Another way to find elements: each is filed under any number of index keys.
    public func index<IndexKey: Hashable>(
        _ keys: @escaping (String, Value) -> [IndexKey]
    ) -> Index<Value, IndexKey> {
        let index = Index(self, keys)
        for (key, value) in self.elements { index.replace(key, nil, value) }
        self.indexes.append(index)
        return index
    }

    final func store(_ key: String, _ value: Value?) {
        let old = self.elements[key]
        if old == value { return }
        if self.before[key] == nil { self.before.updateValue(old, forKey: key) }
        self.elements[key] = value
        self.tokens = nil
        self.netChanges = nil
        for index in self.indexes { index.replace(key, old, value) }
    }

    /// Net changes of this round: what went away and came back the same is none.
    final var changes: [Change] {
        if self.before.isEmpty { return [] }
        if let netChanges { return netChanges }
        let changes = self.before.compactMap { key, old in
            let new = self.elements[key]
            return old == new ? nil : Change(key: key, old: old, new: new)
        }.sorted { $0.key < $1.key }
        // Several nodes ask for the same changes in a round.
        self.netChanges = changes
        return changes
    }

    func update() {}

    final func notify() {
        if self.before.isEmpty || self.observers.isEmpty { return }
        let changes = self.changes
        if changes.isEmpty { return }
        for observer in self.observers { observer(changes) }
    }

    final func forget() {
        if self.before.isEmpty { return }
        self.before.removeAll(keepingCapacity: self.before.count < 1024)
        self.tokens = nil
        self.netChanges = nil
    }

    final var changedTokens: Set<Token> {
        if self.before.isEmpty { return [] }
        if let tokens { return tokens }
        var tokens: Set<Token> = []
        let changes = self.changes
        if !changes.isEmpty { tokens.insert(Token(owner: ObjectIdentifier(self), subject: .everything)) }
        for change in changes {
            tokens.insert(Token(owner: ObjectIdentifier(self), subject: .key(change.key)))
            for index in self.indexes {
                for value in [change.old, change.new] {
                    if let value { tokens.formUnion(index.tokens(change.key, value)) }
                }
            }
        }
        self.tokens = tokens
        return tokens
    }
}

/// A collection whose elements are set from outside.
public final class Input<Value: Equatable>: MeshCollection<Value> {
    override init() { super.init() }

    public func set(_ key: String, _ value: Value) { self.store(key, value) }
    public func remove(_ key: String) { self.store(key, nil) }

    /// Makes these the only elements.
    public func replaceAll(_ elements: [String: Value]) {
        for key in self.elements.keys where elements[key] == nil { self.store(key, nil) }
        for (key, value) in elements { self.store(key, value) }
    }
}

protocol IndexUpdating<Value>: AnyObject {
    associatedtype Value: Equatable
    func replace(_ key: String, _ old: Value?, _ new: Value?)
    func tokens(_ key: String, _ value: Value) -> [Token]
}

/// Finds the elements of a collection by something else than their key.
public final class Index<Value: Equatable, IndexKey: Hashable>: IndexUpdating {
    let collection: MeshCollection<Value>
    private let keys: (String, Value) -> [IndexKey]
    private var filed: [IndexKey: Set<String>] = [:]

    init(_ collection: MeshCollection<Value>, _ keys: @escaping (String, Value) -> [IndexKey]) {
        self.collection = collection
        self.keys = keys
    }

    func replace(_ key: String, _ old: Value?, _ new: Value?) {
        if let old {
            for indexKey in self.keys(key, old) {
                self.filed[indexKey]?.remove(key)
                if self.filed[indexKey]?.isEmpty == true { self.filed[indexKey] = nil }
            }
        }
        if let new {
            for indexKey in self.keys(key, new) { self.filed[indexKey, default: []].insert(key) }
        }
    }

    func tokens(_ key: String, _ value: Value) -> [Token] { self.keys(key, value).map(self.token) }

    func token(_ indexKey: IndexKey) -> Token {
        Token(owner: ObjectIdentifier(self), subject: .indexed(AnyHashable(indexKey)))
    }

    /// Outside a graph's functions; inside, use ``Fetch``, which remembers.
    public func lookUp(_ indexKey: IndexKey) -> [(key: String, value: Value)] {
        (self.filed[indexKey] ?? []).sorted().compactMap { key in self.collection[key].map { (key, $0) } }
    }

    public func contains(_ indexKey: IndexKey) -> Bool { self.filed[indexKey] != nil }
}
