internal import Glibc

/// The binary blocks of a PEM file (RFC 7468), in file order.
struct PEM {
    private static let fileBytesMax = 1 << 20

    private let blocks: [(label: String, der: [UInt8])]

    init(path: String) throws(BenchError) {
        var blocks: [(label: String, der: [UInt8])] = []
        var open: (label: String, der: [UInt8], bits: UInt32, bitCount: Int)?
        for line in try Self.read(path).split(whereSeparator: \.isNewline) {
            if line.hasPrefix("-----BEGIN "), line.hasSuffix("-----") {
                open = (String(line.dropFirst(11).dropLast(5)), [], 0, 0)
            } else if line.hasPrefix("-----END ") {
                if let block = open { blocks.append((block.label, block.der)) }
                open = nil
            } else if var block = open {
                for character in line.utf8 where character != UInt8(ascii: "=") {
                    guard let value = Self.sextet(character) else {
                        throw BenchError("\(path): the block \(block.label) is not base64")
                    }
                    block.bits = block.bits << 6 | value
                    block.bitCount += 6
                    if block.bitCount >= 8 {
                        block.bitCount -= 8
                        block.der.append(UInt8(truncatingIfNeeded: block.bits >> UInt32(block.bitCount)))
                    }
                }
                open = block
            }
        }
        self.blocks = blocks
    }

    var certificates: [[UInt8]] { self.blocks.filter { $0.label == "CERTIFICATE" }.map(\.der) }

    /// PKCS#8.
    var privateKey: [UInt8]? { self.blocks.first { $0.label == "PRIVATE KEY" }?.der }

    private static func sextet(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    private static func read(_ path: String) throws(BenchError) -> String {
        guard let file = fopen(path, "r") else { throw BenchError("\(path): \(String(cString: strerror(errno)))") }
        defer { fclose(file) }
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.fileBytesMax) { buffer, count in
            // SAFETY: fread writes at most the capacity and says how much.
            count = fread(buffer.baseAddress, 1, buffer.count, file)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
