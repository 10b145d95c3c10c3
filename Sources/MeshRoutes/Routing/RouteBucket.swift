import MeshHTTP

/// Candidates for requests with one path or prefix, in the order of their precedence.
///
/// Beyond a few, those that want an exact header are found by its value: hundreds of routes that differ in a tenant's
/// name are no longer to ask than one.
struct RouteBucket: Sendable {
    /// So many are asked one by one.
    static let scanMax = 8

    private struct Selector: Sendable {
        let name: [UInt8]
        var values = ByteIndex()
        /// By the value's number: positions of candidates, ascending.
        var candidates: [[Int32]] = []
    }

    private let candidates: [RouteCandidate]
    private var selectors: [Selector] = []
    private var selectorNames = ByteIndex()
    /// Positions of candidates that no header finds, ascending.
    private var others: [Int32] = []

    init(_ unsorted: [RouteCandidate]) {
        self.candidates = unsorted.sorted { $0.precedence < $1.precedence }
        guard self.candidates.count > Self.scanMax else { return }
        for (position, candidate) in self.candidates.enumerated() {
            guard let (name, value) = Self.selection(candidate) else {
                self.others.append(Int32(position))
                continue
            }
            let number = self.selectorNames.insert(name)
            if number == self.selectors.count { self.selectors.append(Selector(name: name)) }
            let slot = self.selectors[number].values.insert(value)
            if slot == self.selectors[number].candidates.count { self.selectors[number].candidates.append([]) }
            self.selectors[number].candidates[slot].append(Int32(position))
        }
    }

    private static func selection(_ candidate: RouteCandidate) -> (name: [UInt8], value: [UInt8])? {
        for header in candidate.headers where header.place == .field {
            if case .exact(let value) = header.value { return (header.name, value) }
        }
        return nil
    }

    func first(_ request: RequestHead, _ target: Span<UInt8>, pathBytes: Int) -> RouteRule? {
        if self.candidates.count <= Self.scanMax {
            for position in self.candidates.indices
            where self.candidates[position].matches(request, target, pathBytes: pathBytes) {
                return self.candidates[position].rule
            }
            return nil
        }
        var best = Int32(self.candidates.count)
        func ask(_ positions: [Int32]) {
            for position in positions {
                if position >= best { return }
                if self.candidates[Int(position)].matches(request, target, pathBytes: pathBytes) {
                    best = position
                    return
                }
            }
        }
        if !self.selectors.isEmpty {
            for index in 0..<request.fields.count {
                guard let number = self.selectorNames.find(request.fields.nameBytes(index)) else { continue }
                let name = self.selectors[number].name
                // A name's first field stands for all of them.
                guard request.fields.firstIndex(bytes: name) == index else { continue }
                let isRepeated = request.fields.firstIndex(bytes: name, from: index + 1) != nil
                let slot =
                    isRepeated
                    ? self.selectors[number].values.find(request.fields.joinedValue(bytes: name, from: index)[...])
                    : self.selectors[number].values.find(request.fields.valueBytes(index))
                if let slot { ask(self.selectors[number].candidates[slot]) }
            }
        }
        ask(self.others)
        return best < self.candidates.count ? self.candidates[Int(best)].rule : nil
    }
}
