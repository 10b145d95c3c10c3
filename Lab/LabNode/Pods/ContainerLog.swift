import Foundation
import Synchronization

/// Writes what a container says into its log file, one line each: `<time> stdout|stderr F|P <text>`, and passes it on
/// to whoever is attached.
package final class ContainerLog: Sendable {
    package static let lineBytesMax = 16 << 10
    package static let fileBytesMax = 10 << 20
    /// Pieces of output that wait for one attached client; older ones are dropped when it is slower than that.
    package static let attachedPiecesMax = 1024

    package enum Stream: String, Sendable { case stdout, stderr }
    package typealias Piece = (stream: Stream, bytes: [UInt8])

    private struct State {
        var descriptor: Int32 = -1
        var written = 0
        var open = 0
        var attached: [Int: AsyncStream<Piece>.Continuation] = [:]
        var nextReader = 0
        var isEnded = false
    }
    package let path: String
    private let state = Mutex(State())

    /// - Throws: when the file cannot be made.
    package init(path: String) throws {
        self.path = path
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try self.state.withLock { try Self.openFile(path, &$0) }
    }

    private static func openFile(_ path: String, _ state: inout State) throws {
        state.descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        if state.descriptor < 0 { throw SystemError("opening the log \(path)", code: errno) }
        state.written = 0
    }

    /// Reads a pipe to its end on a thread of its own, and closes it.
    package func follow(_ descriptor: Int32, as stream: Stream) {
        self.state.withLock { $0.open += 1 }
        let thread = Thread {
            var line: [UInt8] = []
            while let bytes = readSome(descriptor) {
                self.pass(on: (stream, bytes))
                var rest = bytes[...]
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    line += rest[..<end]
                    self.write(line, stream, isWhole: true)
                    line = []
                    rest = rest[(end + 1)...]
                }
                line += rest
                while line.count >= Self.lineBytesMax {
                    self.write(Array(line[..<Self.lineBytesMax]), stream, isWhole: false)
                    line.removeFirst(Self.lineBytesMax)
                }
            }
            if !line.isEmpty { self.write(line, stream, isWhole: true) }
            close(descriptor)
            self.ended()
        }
        thread.stackSize = 256 * 1024
        thread.start()
    }

    private func pass(on piece: Piece) {
        for reader in self.state.withLock({ Array($0.attached.values) }) { reader.yield(piece) }
    }

    private func write(_ line: [UInt8], _ stream: Stream, isWhole: Bool) {
        let text = Array("\(Timestamp.nanoseconds(Date())) \(stream.rawValue) \(isWhole ? "F" : "P") ".utf8)
        self.state.withLock { state in
            guard state.descriptor >= 0 else { return }
            if state.written >= Self.fileBytesMax {
                close(state.descriptor)
                rename(self.path, "\(self.path).1")
                try? Self.openFile(self.path, &state)
            }
            writeAll(state.descriptor, text + line + [UInt8(ascii: "\n")])
            state.written += text.count + line.count + 1
        }
    }

    private func ended() {
        let readers = self.state.withLock { state -> [AsyncStream<Piece>.Continuation] in
            state.open -= 1
            guard state.open == 0 else { return [] }
            close(state.descriptor)
            state.descriptor = -1
            state.isEnded = true
            defer { state.attached = [:] }
            return Array(state.attached.values)
        }
        for reader in readers { reader.finish() }
    }

    package var isEnded: Bool { self.state.withLock { $0.isEnded } }

    /// Output from now on, until the container ends.
    package func attach() -> AsyncStream<Piece> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: Piece.self, bufferingPolicy: .bufferingNewest(Self.attachedPiecesMax))
        let key = self.state.withLock { state -> Int? in
            if state.isEnded { return nil }
            state.nextReader += 1
            state.attached[state.nextReader] = continuation
            return state.nextReader
        }
        guard let key else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { _ in self.state.withLock { $0.attached[key] = nil } }
        return stream
    }
}
