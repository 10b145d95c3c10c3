/// HPACK's Huffman code (RFC 7541 section 5.2 and appendix B).
///
/// The code is canonical: codes of one length are consecutive, in the order of their symbols, so the lengths say it
/// all. The coding and decoding tables (2 KiB and 16 KiB) are made from them at first use.
package struct HPACKHuffman: Sendable {
    package static let shared = HPACKHuffman()

    /// Bits of the code of each octet, then of EOS.
    private static let lengths: [UInt8] = [
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
        28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
        6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
        5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
        13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
        15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
        6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
        20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
        24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
        22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
        21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
        26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
        19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
        20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
        26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
        30,
    ]
    private static let endOfString = 256
    private static let pieceBytes = 256

    private struct Code {
        var bits: UInt32 = 0
        var length: UInt32 = 0
    }

    /// What four bits do in a state of the decoder, which is an inner node of the code's tree. No code is shorter
    /// than five bits, so four complete at most one.
    private struct Step {
        var next: UInt8 = 0
        var symbol: UInt8 = 0
        var flags: UInt8 = 0

        static let emits: UInt8 = 1
        /// The bits since the last symbol could be padding: all ones, at most seven.
        static let mayEnd: UInt8 = 2
        /// EOS came: never legal.
        static let fails: UInt8 = 4
    }

    private let codes: [Code]
    /// 16 steps for each state.
    private let steps: [Step]

    private init() {
        var codes = [Code](repeating: Code(), count: 257)
        var code: UInt32 = 0
        var length: UInt32 = 0
        for symbol in (0...256).sorted(by: { (Self.lengths[$0], $0) < (Self.lengths[$1], $1) }) {
            code <<= UInt32(Self.lengths[symbol]) - length
            length = UInt32(Self.lengths[symbol])
            codes[symbol] = Code(bits: code, length: length)
            code += 1
        }
        self.codes = codes
        self.steps = Self.makeSteps(codes)
    }

    private static func makeSteps(_ codes: [Code]) -> [Step] {
        // A child is another inner node (1 or more), a symbol (stored as -1 - symbol), or not there yet (0).
        var children: [[Int]] = [[0, 0]]
        // Nodes reached by ones alone and no deeper than seven bits may end a string; the root is one of them.
        var mayEnd = [true]
        for (symbol, code) in codes.enumerated() {
            var node = 0
            for depth in 1...Int(code.length) {
                let bit = Int(code.bits >> (code.length - UInt32(depth)) & 1)
                if depth == Int(code.length) {
                    children[node][bit] = -1 - symbol
                } else {
                    if children[node][bit] == 0 {
                        children.append([0, 0])
                        mayEnd.append(mayEnd[node] && bit == 1 && depth <= 7)
                        children[node][bit] = children.count - 1
                    }
                    node = children[node][bit]
                }
            }
        }
        precondition(children.count == 256, "a complete code of 257 symbols has 256 inner nodes")
        var steps = [Step](repeating: Step(), count: 256 * 16)
        for start in 0..<256 {
            for nibble in 0..<16 {
                var step = Step()
                var node = start
                for bit in [nibble >> 3 & 1, nibble >> 2 & 1, nibble >> 1 & 1, nibble & 1] {
                    let child = children[node][bit]
                    node = max(0, child)
                    if child == -1 - Self.endOfString {
                        step.flags |= Step.fails
                    } else if child < 0 {
                        step.flags |= Step.emits
                        step.symbol = UInt8(-1 - child)
                    }
                }
                step.next = UInt8(node)
                if mayEnd[node] { step.flags |= Step.mayEnd }
                steps[start * 16 + nibble] = step
            }
        }
        return steps
    }

    /// Appends the decoded string. No octet of input gives more than 1.6 octets of output.
    ///
    /// - Returns: false when the code is bad; then `output` has some octets of it.
    package func decode(_ input: UnsafeRawBufferPointer, into output: inout [UInt8]) -> Bool {
        var state = 0
        var flags = Step.mayEnd
        return self.steps.withUnsafeBufferPointer { steps in
            // Through the stack in pieces: an array append for each octet is slower.
            withUnsafeTemporaryAllocation(byteCount: Self.pieceBytes, alignment: 1) { piece in
                var count = 0
                for octet in input {
                    let high = steps[state << 4 | Int(octet >> 4)]
                    let low = steps[Int(high.next) << 4 | Int(octet & 15)]
                    if (high.flags | low.flags) & Step.fails != 0 { return false }
                    // Written always, kept only when a symbol was complete.
                    piece[count] = high.symbol
                    count += Int(high.flags & Step.emits)
                    piece[count] = low.symbol
                    count += Int(low.flags & Step.emits)
                    state = Int(low.next)
                    flags = low.flags
                    if count > Self.pieceBytes - 2 {
                        output.append(contentsOf: UnsafeRawBufferPointer(rebasing: piece[..<count]))
                        count = 0
                    }
                }
                output.append(contentsOf: UnsafeRawBufferPointer(rebasing: piece[..<count]))
                return flags & Step.mayEnd != 0
            }
        }
    }

    /// Octets that ``encode(_:into:)`` will append.
    package func encodedCount(_ input: UnsafeRawBufferPointer) -> Int {
        var bits = 0
        self.codes.withUnsafeBufferPointer { codes in
            for octet in input { bits += Int(codes[Int(octet)].length) }
        }
        return (bits + 7) / 8
    }

    package func encode(_ input: UnsafeRawBufferPointer, into output: inout [UInt8]) {
        self.codes.withUnsafeBufferPointer { codes in
            var pending: UInt64 = 0
            var count: UInt64 = 0
            for octet in input {
                let code = codes[Int(octet)]
                // At most 7 bits wait here and a code has at most 30.
                pending = pending << UInt64(code.length) | UInt64(code.bits)
                count += UInt64(code.length)
                while count >= 8 {
                    count -= 8
                    output.append(UInt8(truncatingIfNeeded: pending >> count))
                }
            }
            if count > 0 {
                // Padded with ones, the first bits of EOS.
                output.append(UInt8(truncatingIfNeeded: pending << (8 - count)) | UInt8(0xff) >> UInt8(count))
            }
        }
    }
}
