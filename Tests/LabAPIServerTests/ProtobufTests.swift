import KubeAPI
import LabAPIServer
import Testing

@Suite("Protobuf bodies")
struct ProtobufTests {
    /// `kubectl create namespace foo`, as kubectl 1.37 sends it.
    private let namespace: [UInt8] = [
        0x6b, 0x38, 0x73, 0x00, 0x0a, 0x0f, 0x0a, 0x02, 0x76, 0x31, 0x12, 0x09, 0x4e, 0x61, 0x6d, 0x65, 0x73, 0x70,
        0x61,
        0x63, 0x65, 0x12, 0x1b, 0x0a, 0x13, 0x0a, 0x03, 0x66, 0x6f, 0x6f, 0x12, 0x00, 0x1a, 0x00, 0x22, 0x00, 0x2a,
        0x00,
        0x32, 0x00, 0x38, 0x00, 0x42, 0x00, 0x12, 0x00, 0x1a, 0x02, 0x0a, 0x00, 0x1a, 0x00, 0x22, 0x00,
    ]

    @Test("become the JSON they stand for, without empty scalars")
    func decoded() throws {
        #expect(
            try ProtobufBody.decode(self.namespace) == [
                "apiVersion": "v1", "kind": "Namespace", "metadata": ["name": "foo"], "spec": [:], "status": [:],
            ])
    }

    @Test("that are cut off or not ours are refused, never trap")
    func damaged() {
        #expect(throws: ProtobufBody.Failure.self) { try ProtobufBody.decode([1, 2, 3, 4, 5]) }
        for length in 0..<self.namespace.count {
            _ = try? ProtobufBody.decode(Array(self.namespace.prefix(length)))
        }
        for index in self.namespace.indices {
            for byte in [UInt8(0), 0x7f, 0x80, 0xff] {
                var bytes = self.namespace
                bytes[index] = byte
                _ = try? ProtobufBody.decode(bytes)
            }
        }
    }
}
