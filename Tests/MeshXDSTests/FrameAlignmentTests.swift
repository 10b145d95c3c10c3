import MeshChannel
import NIOCore
import NIOEmbedded
import Testing

@Suite("Bytes of an HTTP/2 connection before the decoder")
struct FrameAlignmentTests {
    private static func frame(_ payload: Int, _ fill: UInt8) -> [UInt8] {
        [UInt8(payload >> 16), UInt8(payload >> 8 & 255), UInt8(payload & 255), 0, 0, 0, 0, 0, 1]
            + [UInt8](repeating: fill, count: payload)
    }

    private static func passed(_ reads: [ArraySlice<UInt8>], andEnd: Bool = false) throws -> [[UInt8]] {
        let channel = EmbeddedChannel(handler: FrameAlignment())
        var passed: [[UInt8]] = []
        func take() throws {
            while let buffer = try channel.readInbound(as: ByteBuffer.self) {
                passed.append(Array(buffer.readableBytesView))
            }
        }
        for read in reads { try channel.writeInbound(ByteBuffer(bytes: read)) }
        try take()
        if andEnd {
            channel.pipeline.fireChannelInactive()
            try take()
        }
        return passed
    }

    private let frames = [0, 1, 16_384, 0, 300, 7].enumerated().map { Self.frame($1, UInt8($0)) }

    @Test(
        "frames pass one by one, however they are cut", arguments: [1, 2, 8, 9, 10, 11, 4096, 16_393, 16_394, 40_000])
    func whole(readBytes: Int) throws {
        let all = Array(self.frames.joined())
        let reads = stride(from: 0, to: all.count, by: readBytes).map { all[$0..<min($0 + readBytes, all.count)] }
        #expect(try Self.passed(reads) == self.frames)
    }

    @Test("the beginning of a frame waits for its end, and passes when the connection ends")
    func partial() throws {
        let part = Self.frame(10, 1).prefix(12)
        #expect(try Self.passed([part]) == [])
        #expect(try Self.passed([part], andEnd: true) == [Array(part)])
    }

    @Test("from a frame that is longer than allowed everything passes as it comes, for the decoder to refuse")
    func overlong() throws {
        let good = Self.frame(3, 1)
        let header = Self.frame(16_385, 2).prefix(9)
        #expect(try Self.passed([good + header, [1, 2], [3]]) == [good, Array(header), [1, 2], [3]])
        #expect(try Self.passed([header.prefix(5), header.suffix(4), [1]]) == [Array(header), [1]])
        #expect(try Self.passed([good + header + [1, 2]]) == [good, header + [1, 2]])
    }
}
