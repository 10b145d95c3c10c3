import KubeAPI
import NIOCore

/// Turns the chunks of a watch response into events: one JSON document per line.
package enum WatchStream {
    static func events<Body: AsyncSequence & Sendable>(
        of body: Body, lineBytesMax: Int
    ) -> AsyncThrowingStream<WatchEvent, any Error> where Body.Element == ByteBuffer {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: WatchEvent.self)
        let task = Task {
            do {
                var lines = LineSplitter(lineBytesMax: lineBytesMax)
                for try await part in body {
                    for line in try lines.append(part.readableBytesView) {
                        continuation.yield(try Self.event(line))
                    }
                }
                continuation.finish()
            } catch let error as StatusError {
                continuation.finish(throwing: error)
            } catch let error as CancellationError {
                continuation.finish(throwing: error)
            } catch {
                continuation.finish(throwing: KubeConnectionError("the watch broke off: \(error)"))
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    package static func event(_ line: [UInt8]) throws -> WatchEvent {
        let json = try JSONValue(parsing: line)
        let object = KubeObject(json["object"] ?? [:])
        switch json["type"]?.string {
        case "ADDED": return .added(object)
        case "MODIFIED": return .modified(object)
        case "DELETED": return .deleted(object)
        case "BOOKMARK": return .bookmark(resourceVersion: object.resourceVersion)
        case "ERROR": throw StatusError(code: Int(object.json["code"]?.int ?? 500), body: object.json)
        case let other: throw KubeConnectionError("unknown watch event type \"\(other ?? "")\"")
        }
    }
}

/// Cuts a byte stream into lines without their line feed; empty lines are dropped.
package struct LineSplitter {
    let lineBytesMax: Int
    private var rest: [UInt8] = []

    package init(lineBytesMax: Int) { self.lineBytesMax = lineBytesMax }

    package mutating func append(_ bytes: some Collection<UInt8>) throws -> [[UInt8]] {
        var lines: [[UInt8]] = []
        var remaining = bytes[...]
        while let end = remaining.firstIndex(of: 0x0a) {
            self.rest += remaining[..<end]
            if !self.rest.isEmpty { lines.append(self.rest) }
            self.rest = []
            remaining = remaining[remaining.index(after: end)...]
        }
        self.rest += remaining
        guard self.rest.count <= self.lineBytesMax else {
            throw KubeConnectionError("a watch event is longer than \(self.lineBytesMax) bytes")
        }
        return lines
    }
}
