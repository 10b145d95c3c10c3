/// A pattern as a machine with several threads, after Thompson: each runs through ``steps`` and all read one octet at a
/// time.
struct RegexProgram: Sendable {
    enum Step: Sendable {
        /// Of ``sets``; then the next step.
        case read(Int)
        case fork(Int, Int)
        case jump(Int)
        case startOfText
        case endOfText
        case match
    }

    /// Octets of work for one octet of text, at most.
    static let stepsMax = 4000

    private(set) var steps: [Step] = []
    private(set) var sets: [ByteSet] = []
    private var setIndex: [ByteSet: Int] = [:]
    /// Repetitions of nothing add no steps, but take time.
    private var nodesSeen = 0

    init(_ node: RegexNode) throws(RegexError) {
        try self.add(node)
        self.steps.append(.match)
        self.setIndex = [:]
    }

    private mutating func append(_ step: Step) throws(RegexError) {
        if self.steps.count >= Self.stepsMax { throw .tooLarge("larger than \(Self.stepsMax) steps: repeat less") }
        self.steps.append(step)
    }

    private mutating func add(_ node: RegexNode) throws(RegexError) {
        self.nodesSeen += 1
        if self.nodesSeen > 8 * Self.stepsMax { throw .tooLarge("larger than \(Self.stepsMax) steps: repeat less") }
        switch node {
        case .empty: break
        case .set(let set):
            let index = self.setIndex[set] ?? self.sets.count
            if index == self.sets.count {
                self.sets.append(set)
                self.setIndex[set] = index
            }
            try self.append(.read(index))
        case .sequence(let nodes): for node in nodes { try self.add(node) }
        case .choice(let nodes): try self.addChoice(nodes)
        case .startOfText: try self.append(.startOfText)
        case .endOfText: try self.append(.endOfText)
        case .repetition(let node, let least, let most):
            for _ in 0..<least { try self.add(node) }
            if let most {
                try self.addOptional(node, times: most - least)
            } else {
                let fork = self.steps.count
                try self.append(.fork(0, 0))
                try self.add(node)
                try self.append(.jump(fork))
                self.steps[fork] = .fork(fork + 1, self.steps.count)
            }
        }
    }

    /// `(a(a(a)?)?)?`, all with one way out.
    private mutating func addOptional(_ node: RegexNode, times: Int) throws(RegexError) {
        var forks: [Int] = []
        for _ in 0..<times {
            forks.append(self.steps.count)
            try self.append(.fork(0, 0))
            try self.add(node)
        }
        for fork in forks { self.steps[fork] = .fork(fork + 1, self.steps.count) }
    }

    private mutating func addChoice(_ nodes: [RegexNode]) throws(RegexError) {
        var ends: [Int] = []
        for (index, node) in nodes.enumerated() {
            guard index < nodes.count - 1 else {
                try self.add(node)
                break
            }
            let fork = self.steps.count
            try self.append(.fork(0, 0))
            try self.add(node)
            ends.append(self.steps.count)
            try self.append(.jump(0))
            self.steps[fork] = .fork(fork + 1, self.steps.count)
        }
        for end in ends { self.steps[end] = .jump(self.steps.count) }
    }
}

/// The threads of a ``RegexProgram`` between two octets: steps that read, that wait for the end, or that match.
struct RegexThreads {
    /// Sorted only by ``sort()``.
    private(set) var steps: [UInt16] = []
    private var mark: [UInt32]
    private var generation: UInt32 = 0
    private var stack: [Int] = []

    init(_ program: RegexProgram) { self.mark = [UInt32](repeating: 0, count: program.steps.count) }

    mutating func clear() {
        self.steps.removeAll(keepingCapacity: true)
        if self.generation == .max {
            self.mark = [UInt32](repeating: 0, count: self.mark.count)
            self.generation = 0
        }
        self.generation += 1
    }

    mutating func sort() { self.steps.sort() }

    /// Follows forks and jumps from a step.
    mutating func enter(_ start: Int, _ program: RegexProgram, atStart: Bool) {
        self.stack.append(start)
        while let step = self.stack.popLast() {
            if self.mark[step] == self.generation { continue }
            self.mark[step] = self.generation
            switch program.steps[step] {
            case .read, .endOfText, .match: self.steps.append(UInt16(step))
            case .fork(let first, let second):
                self.stack.append(second)
                self.stack.append(first)
            case .jump(let next): self.stack.append(next)
            case .startOfText: if atStart { self.stack.append(step + 1) }
            }
        }
    }

    /// Whether a thread can match without reading more.
    func canEnd(_ program: RegexProgram, atStart: Bool) -> Bool {
        var waiting: [Int] = []
        for step in self.steps {
            switch program.steps[Int(step)] {
            case .match: return true
            case .endOfText: waiting.append(Int(step))
            default: break
            }
        }
        if waiting.isEmpty { return false }
        var seen = Set<Int>()
        while let step = waiting.popLast() {
            guard seen.insert(step).inserted else { continue }
            switch program.steps[step] {
            case .match: return true
            case .endOfText: waiting.append(step + 1)
            case .startOfText: if atStart { waiting.append(step + 1) }
            case .fork(let first, let second): waiting += [first, second]
            case .jump(let next): waiting.append(next)
            case .read: break
            }
        }
        return false
    }
}
