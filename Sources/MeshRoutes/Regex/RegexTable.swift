/// A ``RegexProgram`` with all its sets of threads worked out ahead: one look-up for each octet of text.
///
/// Some patterns have exponentially many of them; those have no table.
struct RegexTable: Sendable {
    static let statesMax = 1000
    /// States times classes of octets: 128 KB.
    static let entriesMax = 65_536
    /// Threads moved while building; bounds the time that one pattern of a new configuration takes.
    static let workMax = 400_000

    /// For each octet, which of the classes that the pattern tells apart.
    private let classOf: [UInt8]
    private let classes: Int
    /// The next state, by state and class. State 0 is the one that nothing leads out of.
    private let next: [UInt16]
    private let accepts: [Bool]

    /// - Returns: nil when a bound is exceeded.
    init?(_ program: RegexProgram) {
        var classOf = [Int](repeating: 0, count: 256)
        var classes = 1
        for set in program.sets {
            var renamed: [Int: Int] = [:]
            for byte in 0..<256 {
                let key = classOf[byte] << 1 | (set.contains(UInt8(byte)) ? 1 : 0)
                let name = renamed[key] ?? renamed.count
                renamed[key] = name
                classOf[byte] = name
            }
            classes = renamed.count
        }
        self.classOf = classOf.map { UInt8($0) }
        self.classes = classes
        var example = [UInt8](repeating: 0, count: classes)
        for byte in 0..<256 { example[classOf[byte]] = UInt8(byte) }

        var states: [[UInt16]] = [[]]
        var accepts = [false]
        var known: [[UInt16]: UInt16] = [[]: 0]
        var next = [UInt16](repeating: 0, count: classes)
        var threads = RegexThreads(program)
        threads.clear()
        threads.enter(0, program, atStart: true)
        threads.sort()
        // Not in `known`: only here does the start of the text hold.
        states.append(threads.steps)
        accepts.append(threads.canEnd(program, atStart: true))
        var work = 0
        var state = 1
        while state < states.count {
            for name in 0..<classes {
                threads.clear()
                for step in states[state] {
                    guard case .read(let set) = program.steps[Int(step)], program.sets[set].contains(example[name])
                    else { continue }
                    threads.enter(Int(step) + 1, program, atStart: false)
                }
                threads.sort()
                work += states[state].count + threads.steps.count + 1
                if work > Self.workMax { return nil }
                if let old = known[threads.steps] {
                    next.append(old)
                    continue
                }
                guard states.count < Self.statesMax, (states.count + 1) * classes <= Self.entriesMax else { return nil }
                known[threads.steps] = UInt16(states.count)
                next.append(UInt16(states.count))
                states.append(threads.steps)
                accepts.append(threads.canEnd(program, atStart: false))
            }
            state += 1
        }
        self.next = next
        self.accepts = accepts
    }

    func matches(_ text: Span<UInt8>) -> Bool {
        var state = 1
        for at in text.indices {
            state = Int(self.next[state * self.classes + Int(self.classOf[Int(text[at])])])
            if state == 0 { return false }
        }
        return self.accepts[state]
    }
}
