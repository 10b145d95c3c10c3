internal import MeshProto
internal import MeshRoutes

/// Several changes of headers, one after the other, as the one that Envoy can be told: it removes first, then sets and adds.
struct HeaderFold {
    /// What happens to the fields of one name.
    private struct Outcome {
        /// Those that came are gone.
        var isCleared = false
        var values: [String] = []
    }

    private(set) var added: [EnvoyHeaderValueOption] = []
    private(set) var removed: [String] = []
    /// The request's authority, which is no header to Envoy.
    private(set) var host: String?

    init(_ changes: [HeaderChange]) {
        var outcomes: [String: Outcome] = [:]
        for change in changes {
            for field in change.set { outcomes[field.name] = Outcome(isCleared: true, values: [field.value]) }
            for field in change.add { outcomes[field.name, default: Outcome()].values.append(field.value) }
            for name in change.remove where name != "host" { outcomes[name] = Outcome(isCleared: true) }
        }
        self.host = outcomes.removeValue(forKey: "host")?.values.last
        for (name, outcome) in outcomes.sorted(by: { $0.key < $1.key }) where HeaderChange.mayChange(name) {
            if outcome.isCleared, outcome.values.isEmpty { self.removed.append(name) }
            for (index, value) in outcome.values.enumerated() {
                self.added.append(
                    .with {
                        $0.header.key = name
                        // `%` begins a command there.
                        $0.header.value = RegexText.doubled("%", in: value)
                        $0.appendAction =
                            outcome.isCleared && index == 0 ? .overwriteIfExistsOrAdd : .appendIfExistsOrAdd
                        $0.keepEmptyValue = true
                    })
            }
        }
    }
}

extension EnvoyRoute {
    mutating func apply(request fold: HeaderFold) {
        self.requestHeadersToAdd = fold.added
        self.requestHeadersToRemove = fold.removed
    }

    mutating func apply(response fold: HeaderFold) {
        self.responseHeadersToAdd = fold.added
        self.responseHeadersToRemove = fold.removed
    }
}
