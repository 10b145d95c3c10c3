internal import KubeAPI

/// A set of places in an object: what one manager owns. The tree form of `managedFields[].fieldsV1`.
struct FieldSet: Hashable, Sendable {
    enum Step: Hashable, Sendable, Comparable {
        /// A member of a map: `f:name`.
        case field(String)
        /// An element of an associative list, by its keys as compact JSON: `k:{"name":"x"}`.
        case key(JSONValue)
        /// An element of a set: `v:"x"`.
        case value(JSONValue)

        var text: String {
            switch self {
            case .field(let name): "f:\(name)"
            case .key(let keys): "k:\(keys)"
            case .value(let value): "v:\(value)"
            }
        }

        init?(_ text: String) {
            let body = String(text.dropFirst(2))
            switch text.prefix(2) {
            case "f:": self = .field(body)
            case "k:":
                guard let keys = try? JSONValue(parsing: body) else { return nil }
                self = .key(keys)
            case "v:":
                guard let value = try? JSONValue(parsing: body) else { return nil }
                self = .value(value)
            default: return nil
            }
        }

        static func < (left: Step, right: Step) -> Bool { left.text < right.text }
    }

    /// The place itself belongs to the set, not only places below it.
    var isMember = false
    var children: [Step: FieldSet] = [:]

    static let leaf = FieldSet(isMember: true)

    var isEmpty: Bool { !self.isMember && self.children.isEmpty }

    init(isMember: Bool = false, children: [Step: FieldSet] = [:]) {
        self.isMember = isMember
        self.children = children
    }

    /// Reads `fieldsV1`; steps of unknown form are left out.
    init(fieldsV1 json: JSONValue) {
        self.isMember = json["."] != nil
        for (text, child) in json.object ?? [:] where text != "." {
            guard let step = Step(text) else { continue }
            var set = FieldSet(fieldsV1: child)
            if set.children.isEmpty { set.isMember = true }
            self.children[step] = set
        }
    }

    var fieldsV1: JSONValue {
        var members: [String: JSONValue] = [:]
        if self.isMember, !self.children.isEmpty { members["."] = [:] }
        for (step, child) in self.children { members[step.text] = child.fieldsV1 }
        return .object(members)
    }

    func union(_ other: FieldSet) -> FieldSet {
        FieldSet(
            isMember: self.isMember || other.isMember,
            children: self.children.merging(other.children) { $0.union($1) })
    }

    func subtracting(_ other: FieldSet) -> FieldSet {
        var result = FieldSet(isMember: self.isMember && !other.isMember)
        for (step, child) in self.children {
            let rest = other.children[step].map(child.subtracting) ?? child
            if !rest.isEmpty { result.children[step] = rest }
        }
        return result
    }

    func intersection(_ other: FieldSet) -> FieldSet {
        var result = FieldSet(isMember: self.isMember && other.isMember)
        for (step, child) in self.children {
            guard let common = other.children[step].map(child.intersection), !common.isEmpty else { continue }
            result.children[step] = common
        }
        return result
    }

    /// Without the places at and below those of `other`.
    func removingTrees(_ other: FieldSet) -> FieldSet {
        if other.isMember, other.children.isEmpty { return FieldSet() }
        var result = FieldSet(isMember: self.isMember)
        for (step, child) in self.children {
            let rest = other.children[step].map(child.removingTrees) ?? child
            if !rest.isEmpty { result.children[step] = rest }
        }
        return result
    }

    /// All places, as the texts of conflict messages: `.spec.containers[name="c"].image`.
    var paths: [String] {
        var paths: [String] = []
        self.collect("", &paths)
        return paths
    }

    private func collect(_ prefix: String, _ paths: inout [String]) {
        if self.isMember { paths.append(prefix) }
        for (step, child) in self.children.sorted(by: { $0.key < $1.key }) {
            let text: String
            switch step {
            case .field(let name): text = ".\(name)"
            case .key(let keys):
                let pairs = (keys.object ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
                text = "[\(pairs.joined(separator: ","))]"
            case .value(let value): text = "[=\(value)]"
            }
            child.collect(prefix + text, &paths)
        }
    }
}

extension FieldSet {
    /// The places of a value: leaves, and the elements of associative lists and sets themselves.
    init(of value: JSONValue, _ shape: FieldShape) {
        switch value {
        case .object(let members) where !shape.isAtomicMap && !members.isEmpty:
            for (name, member) in members {
                self.children[.field(name)] = FieldSet(of: member, shape.member(name))
            }
        case .array(let elements):
            switch shape.list {
            case .atomic: self.isMember = true
            case .set:
                if elements.isEmpty { self.isMember = true }
                for element in elements { self.children[.value(element)] = .leaf }
            case .map:
                if elements.isEmpty { self.isMember = true }
                for element in elements {
                    var set = FieldSet(of: element, shape.element)
                    set.isMember = true
                    self.children[.key(Self.keys(of: element, shape))] = set
                }
            }
        default: self.isMember = true
        }
    }

    /// The keys of one element of an associative list, with defaults filled in.
    static func keys(of element: JSONValue, _ shape: FieldShape) -> JSONValue {
        guard case .map(let names) = shape.list else { return .null }
        var keys: [String: JSONValue] = [:]
        for name in names {
            if let value = element[name] ?? shape.keyDefault(name) { keys[name] = value }
        }
        return .object(keys)
    }

    /// Places that differ between two values: added or changed ones, and removed ones.
    static func changes(
        from old: JSONValue?, to new: JSONValue?, _ shape: FieldShape
    ) -> (changed: FieldSet, removed: FieldSet) {
        if old == new { return (FieldSet(), FieldSet()) }
        guard let new else { return (FieldSet(), FieldSet(of: old ?? .null, shape).withRoot) }
        guard let old else { return (FieldSet(of: new, shape), FieldSet()) }
        var changed = FieldSet()
        var removed = FieldSet()
        func compare(_ step: Step, _ left: JSONValue?, _ right: JSONValue?, _ shape: FieldShape) {
            let (c, r) = Self.changes(from: left, to: right, shape)
            if !c.isEmpty { changed.children[step] = c }
            if !r.isEmpty { removed.children[step] = r }
        }
        switch (old, new) {
        case (.object(let left), .object(let right)) where !shape.isAtomicMap && !(left.isEmpty || right.isEmpty):
            for name in Set(left.keys).union(right.keys) {
                compare(.field(name), left[name], right[name], shape.member(name))
            }
        case (.array(let left), .array(let right)) where shape.list == .set:
            for value in right where !left.contains(value) { changed.children[.value(value)] = .leaf }
            for value in left where !right.contains(value) { removed.children[.value(value)] = .leaf }
        case (.array(let left), .array(let right)) where shape.list != .atomic:
            var byKey: [JSONValue: (JSONValue?, JSONValue?)] = [:]
            for element in left { byKey[Self.keys(of: element, shape), default: (nil, nil)].0 = element }
            for element in right { byKey[Self.keys(of: element, shape), default: (nil, nil)].1 = element }
            for (key, (before, after)) in byKey {
                compare(.key(key), before, after, shape.element)
                if before == nil { changed.children[.key(key), default: FieldSet()].isMember = true }
            }
        default:
            return (FieldSet(of: new, shape), FieldSet(of: old, shape).subtracting(FieldSet(of: new, shape)))
        }
        return (changed, removed)
    }

    private var withRoot: FieldSet { FieldSet(isMember: true, children: self.children) }
}
