import MeshHTTP
import Testing

@Suite("A header block in pieces")
struct HTTP2HeaderBlockTests {
    @Test("is open from its HEADERS to END_HEADERS, so that a deadline can be kept")
    func open() throws {
        var reader = HTTP2FrameReader(role: .client)
        func feed(_ bytes: [UInt8]) throws {
            try bytes.withUnsafeBytes { bytes in
                var input = bytes
                while try reader.next(&input) != nil {}
            }
        }
        try feed(emptySettings)
        #expect(!reader.isInsideHeaderBlock && reader.blocksBegun == 0)
        try feed(frame(.headers, [], stream: 1, [0x82]))
        #expect(reader.isInsideHeaderBlock && reader.blocksBegun == 1)
        try feed(frame(.continuation, [.endHeaders], stream: 1, [0x86]))
        #expect(!reader.isInsideHeaderBlock && reader.blocksBegun == 1)
    }
}
