/// How a function looks at other collections. Every look is remembered, also one that found nothing.
public final class Fetch {
    var tokens: Set<Token> = []
    var sources: [ObjectIdentifier: any Node] = [:]

    init() {}

    public func get<Value>(_ collection: MeshCollection<Value>, _ key: String) -> Value? {
        self.looked(at: collection, Token(owner: ObjectIdentifier(collection), subject: .key(key)))
        return collection[key]
    }

    /// Ordered by key.
    public func get<Value, IndexKey>(
        _ index: Index<Value, IndexKey>, _ key: IndexKey
    ) -> [(key: String, value: Value)] {
        self.looked(at: index.collection, index.token(key))
        return index.lookUp(key)
    }

    public func has<Value, IndexKey>(_ index: Index<Value, IndexKey>, _ key: IndexKey) -> Bool {
        self.looked(at: index.collection, index.token(key))
        return index.contains(key)
    }

    /// Any change of the collection recomputes: for small collections only. Ordered by key.
    public func all<Value>(_ collection: MeshCollection<Value>) -> [(key: String, value: Value)] {
        self.looked(at: collection, Token(owner: ObjectIdentifier(collection), subject: .everything))
        return collection.all.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    private func looked(at node: any Node, _ token: Token) {
        self.tokens.insert(token)
        self.sources[ObjectIdentifier(node)] = node
    }
}

/// A collection computed from another, element by element.
final class Derived<Source: Equatable, Value: Equatable>: MeshCollection<Value> {
    private let source: MeshCollection<Source>
    private let transform: (String, Source, Fetch) -> [(key: String, value: Value)]

    /// By source key: what it looked at and what it gave.
    private var looks: [String: Set<Token>] = [:]
    private var outputs: [String: [String: Value]] = [:]
    private var lookers: [Token: Set<String>] = [:]
    private var fetched: [ObjectIdentifier: any Node] = [:]
    /// By output key, the source keys that give it; nearly always one.
    private var givers: [String: Set<String>] = [:]

    init(
        _ source: MeshCollection<Source>,
        _ transform: @escaping (String, Source, Fetch) -> [(key: String, value: Value)]
    ) {
        self.source = source
        self.transform = transform
        super.init()
        for key in source.all.keys { self.recompute(key) }
    }

    override func update() {
        var dirty = Set(self.source.changes.map(\.key))
        for node in self.fetched.values {
            let changed = node.changedTokens
            // Walk the shorter list.
            if changed.count <= self.lookers.count {
                for token in changed { if let keys = self.lookers[token] { dirty.formUnion(keys) } }
            } else {
                for (token, keys) in self.lookers where changed.contains(token) { dirty.formUnion(keys) }
            }
        }
        for key in dirty { self.recompute(key) }
    }

    private func recompute(_ key: String) {
        let fetch = Fetch()
        let given = self.source[key].map { self.transform(key, $0, fetch) } ?? []
        let new = Dictionary(given.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
        self.remember(key, fetch)
        let old = self.outputs[key] ?? [:]
        self.outputs[key] = new.isEmpty ? nil : new
        for output in old.keys where new[output] == nil {
            self.givers[output]?.remove(key)
            if self.givers[output]?.isEmpty == true { self.givers[output] = nil }
        }
        for output in new.keys { self.givers[output, default: []].insert(key) }
        for output in Set(old.keys).union(new.keys) {
            // Two sources that give the same key: the lesser source key wins, whatever came first.
            let giver = self.givers[output]?.min()
            self.store(output, giver.flatMap { self.outputs[$0]?[output] })
        }
    }

    private func remember(_ key: String, _ fetch: Fetch) {
        let old = self.looks[key] ?? []
        for token in old.subtracting(fetch.tokens) {
            self.lookers[token]?.remove(key)
            if self.lookers[token]?.isEmpty == true { self.lookers[token] = nil }
        }
        for token in fetch.tokens.subtracting(old) { self.lookers[token, default: []].insert(key) }
        self.looks[key] = fetch.tokens.isEmpty ? nil : fetch.tokens
        self.fetched.merge(fetch.sources) { old, _ in old }
    }
}

/// The elements of several collections as one.
final class Joined<Value: Equatable>: MeshCollection<Value> {
    private let sources: [MeshCollection<Value>]

    init(_ sources: [MeshCollection<Value>]) {
        self.sources = sources
        super.init()
        for source in sources { for key in source.all.keys { self.refresh(key) } }
    }

    override func update() {
        for source in self.sources { for change in source.changes { self.refresh(change.key) } }
    }

    private func refresh(_ key: String) {
        self.store(key, self.sources.lazy.compactMap { $0[key] }.first)
    }
}
