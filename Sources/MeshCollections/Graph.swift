/// Collections that follow from other collections.
///
/// A derived collection is a pure function of one element of its source and of whatever else it fetches. What was
/// fetched is remembered, so a change recomputes exactly the elements that looked at it; an element that comes out
/// equal is no change. Changes take effect together, in ``settle()``.
///
/// Single-threaded by design: a graph, its collections and its functions belong to one actor or one thread.
public final class Graph {
    /// In order of creation, which is an order of dependence: a function can only fetch what exists already.
    private var nodes: [any Node] = []

    public init() {}

    /// A collection whose elements are set from outside.
    public func input<Value: Equatable>(_ type: Value.Type = Value.self) -> Input<Value> {
        self.add(Input<Value>())
    }

    /// Each element of `source` gives any number of elements, each with its own key.
    public func flatMap<Source: Equatable, Value: Equatable>(
        _ source: MeshCollection<Source>,
        _ transform: @escaping (String, Source, Fetch) -> [(key: String, value: Value)]
    ) -> MeshCollection<Value> {
        self.add(Derived(source, transform))
    }

    /// Each element of `source` gives one element under the same key, or none.
    public func map<Source: Equatable, Value: Equatable>(
        _ source: MeshCollection<Source>, _ transform: @escaping (String, Source, Fetch) -> Value?
    ) -> MeshCollection<Value> {
        self.add(Derived(source) { key, value, fetch in transform(key, value, fetch).map { [(key, $0)] } ?? [] })
    }

    /// One value that follows from whatever the function fetches; it stands under the empty key.
    public func value<Value: Equatable>(_ compute: @escaping (Fetch) -> Value) -> MeshCollection<Value> {
        let once = self.input(Bool.self)
        once.set("", true)
        return self.map(once) { _, _, fetch in compute(fetch) }
    }

    /// All elements of several collections; of elements with the same key, that of the earliest collection.
    public func join<Value: Equatable>(_ sources: [MeshCollection<Value>]) -> MeshCollection<Value> {
        self.add(Joined(sources))
    }

    /// Brings every derived collection up to date, then tells the observers, then forgets what changed.
    public func settle() {
        for node in self.nodes { node.update() }
        for node in self.nodes { node.notify() }
        for node in self.nodes { node.forget() }
    }

    private func add<N: Node>(_ node: N) -> N {
        self.nodes.append(node)
        return node
    }
}

protocol Node: AnyObject {
    func update()
    func notify()
    func forget()
    /// What the changes of this round concern.
    var changedTokens: Set<Token> { get }
}

/// Something a function looked at.
struct Token: Hashable {
    enum Subject: Hashable {
        case key(String)
        case indexed(AnyHashable)
        case everything
    }
    let owner: ObjectIdentifier
    let subject: Subject
}
