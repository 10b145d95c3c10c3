/// Makes inputs from inputs: flips, numbers at the edges, pieces moved, doubled, dropped, joined, and the words of the
/// target. Knows no coverage; what libFuzzer finds with it, this finds later or not.
package struct Mutator {
    private var state: UInt64
    package let inputBytesMax: Int

    package init(seed: UInt64, inputBytesMax: Int = 4096) {
        self.state = seed
        self.inputBytesMax = inputBytesMax
    }

    private mutating func random(_ bound: Int) -> Int {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return Int(truncatingIfNeeded: (z ^ z >> 31) >> 33) % max(1, bound)
    }

    package mutating func input(from corpus: [[UInt8]], tokens: [[UInt8]]) -> [UInt8] {
        var bytes = corpus.isEmpty ? [] : corpus[self.random(corpus.count)]
        for _ in 0...self.random(6) { self.mutate(&bytes, corpus, tokens) }
        return Array(bytes.prefix(self.inputBytesMax))
    }

    private mutating func mutate(_ bytes: inout [UInt8], _ corpus: [[UInt8]], _ tokens: [[UInt8]]) {
        let at = self.random(bytes.count + 1)
        switch self.random(9) {
        case 0: if at < bytes.count { bytes[at] ^= 1 << UInt8(self.random(8)) }
        case 1: if at < bytes.count { bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 9, 32, 58][self.random(8)] }
        case 2: if at < bytes.count { bytes[at] = UInt8(self.random(256)) }
        case 3: bytes.insert(UInt8(self.random(256)), at: at)
        case 4: bytes.removeSubrange(at..<min(bytes.count, at + 1 + self.random(8)))
        case 5:
            let piece = bytes[at..<min(bytes.count, at + 1 + self.random(32))]
            bytes.insert(contentsOf: Array(piece), at: self.random(bytes.count + 1))
        case 6: if !tokens.isEmpty { bytes.insert(contentsOf: tokens[self.random(tokens.count)], at: at) }
        case 7:
            guard !corpus.isEmpty else { return }
            let other = corpus[self.random(corpus.count)]
            bytes.replaceSubrange(at..., with: other[self.random(other.count + 1)...])
        default:
            let repeats = self.random(40)
            if at < bytes.count { bytes.insert(contentsOf: [UInt8](repeating: bytes[at], count: repeats), at: at) }
        }
    }
}
