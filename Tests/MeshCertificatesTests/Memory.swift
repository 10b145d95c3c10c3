import MeshTelemetry
import Synchronization

/// Keeps what is written.
final class Memory: LogDestination {
    private let bytes = Mutex<[UInt8]>([])
    func write(_ bytes: [UInt8]) { self.bytes.withLock { $0 += bytes } }
    var text: String { self.bytes.withLock { String(decoding: $0, as: UTF8.self) } }
    var lines: [Substring] { self.text.split(separator: "\n") }
}
