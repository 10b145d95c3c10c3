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

    private var table = LookTable()
    private var fetched: [ObjectIdentifier: any Node] = [:]
    /// By source key, the keys of what it gave.
    private var given: [String: [String]] = [:]
    /// By output key, the source key whose value stands there.
    private var owners: [String: String] = [:]
    /// By output key, the values of source keys that gave it too and do not own it; nearly always empty.
    private var shadowed: [String: [String: Value]] = [:]

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
        // No key path: made anew by every node of every round, it was a tenth of the cost of one changed route.
        var dirty: Set<String> = []
        for change in self.source.changes { dirty.insert(change.key) }
        for node in self.fetched.values { self.table.collect(node.changedTokens, into: &dirty) }
        for key in dirty { self.recompute(key) }
    }

    private func recompute(_ key: String) {
        let fetch = Fetch()
        let results = self.source[key].map { self.transform(key, $0, fetch) } ?? []
        self.table.set(key, fetch.tokens)
        for (identifier, node) in fetch.sources { self.fetched[identifier] = node }

        var new: [String] = []
        for (output, value) in results where !new.contains(output) {
            new.append(output)
            self.offer(output, value, from: key)
        }
        for output in self.given[key] ?? [] where !new.contains(output) { self.withdraw(output, from: key) }
        self.given[key] = new.isEmpty ? nil : new
    }

    /// Two sources that give the same key: the lesser source key wins, whatever came first.
    private func offer(_ output: String, _ value: Value, from key: String) {
        if let owner = self.owners[output], owner != key {
            guard key < owner else {
                self.shadowed[output, default: [:]][key] = value
                return
            }
            self.shadowed[output, default: [:]][owner] = self[output]
            self.shadowed[output]?[key] = nil
        }
        self.owners[output] = key
        self.store(output, value)
    }

    private func withdraw(_ output: String, from key: String) {
        guard self.owners[output] == key else {
            self.shadowed[output]?[key] = nil
            if self.shadowed[output]?.isEmpty == true { self.shadowed[output] = nil }
            return
        }
        let heir = self.shadowed[output]?.keys.min()
        self.owners[output] = heir
        self.store(output, heir.flatMap { self.shadowed[output]?.removeValue(forKey: $0) })
        if self.shadowed[output]?.isEmpty == true { self.shadowed[output] = nil }
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
