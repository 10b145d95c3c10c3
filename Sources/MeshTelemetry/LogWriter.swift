internal import Dispatch
internal import Glibc
internal import Synchronization

/// Where lines go in the end.
public protocol LogDestination: Sendable {
    /// Whole lines, several at a time; called by one thread at a time.
    func write(_ bytes: [UInt8])
}

/// Standard output or another descriptor that stays open.
public struct DescriptorDestination: LogDestination {
    private let descriptor: CInt
    public static let standardOutput = Self(descriptor: 1)
    public static let standardError = Self(descriptor: 2)

    public init(descriptor: CInt) { self.descriptor = descriptor }

    public func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            // SAFETY: reads the slice for the time of the call.
            let count = rest.withUnsafeBytes { Glibc.write(self.descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                // A reader that went away must not stop the proxy; the lines are lost with it.
                if errno != EINTR && errno != EAGAIN { return }
                if errno == EAGAIN { usleep(1000) }
                continue
            }
            rest = rest.dropFirst(count)
        }
    }
}

/// Writes lines in the background. Producers only queue; when the queue is full they wait: no line is lost.
public final class LogWriter: Sendable {
    /// Lines that may wait.
    public static let linesMax = 10_000
    /// Lines in one write.
    static let batchLinesMax = 64

    private struct Queue {
        var lines: [[UInt8]] = []
        var isDraining = false
    }

    private let destination: any LogDestination
    private let thread = DispatchQueue(label: "log")
    private let places: DispatchSemaphore
    private let queue = Mutex(Queue())
    private let linesMax: Int

    public init(_ destination: any LogDestination, linesMax: Int = LogWriter.linesMax) {
        self.destination = destination
        self.linesMax = linesMax
        // Counts up from zero: a semaphore that is released below its first value would trap.
        self.places = DispatchSemaphore(value: 0)
        for _ in 0..<linesMax { self.places.signal() }
    }

    /// - Parameter line: with its end.
    public func write(_ line: [UInt8]) {
        self.places.wait()
        let wake = self.queue.withLock { queue in
            queue.lines.append(line)
            defer { queue.isDraining = true }
            return !queue.isDraining
        }
        if wake { self.thread.async { self.drain() } }
    }

    private func drain() {
        while true {
            let lines = self.queue.withLock { queue -> [[UInt8]] in
                if queue.lines.isEmpty { queue.isDraining = false }
                defer { queue.lines = [] }
                return queue.lines
            }
            if lines.isEmpty { return }
            var start = 0
            while start < lines.count {
                let batch = lines[start..<min(start + Self.batchLinesMax, lines.count)]
                self.destination.write(Array(batch.joined()))
                for _ in batch { self.places.signal() }
                start += batch.count
            }
        }
    }

    /// Returns when every line queued before the call is written.
    public func flush() async {
        await withCheckedContinuation { waiting in self.thread.async { waiting.resume() } }
    }
}
