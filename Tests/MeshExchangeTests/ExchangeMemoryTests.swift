import Foundation
import Glibc
import MeshExchange
import MeshHTTP
import Testing

/// What a client's connection that waits for its next request costs layer 7: the heap, without the tunnel's stream below it
/// (``MemoryTests`` of the tunnel). A figure and no verdict, so it is printed on demand:
/// `MARTLET_MEMORY=1 swift test -c release --filter ExchangeMemoryTests`. Run it alone.
@Suite(
    "Memory of idle HTTP connections", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: ProcessInfo.processInfo.environment["MARTLET_MEMORY"] != nil))
struct ExchangeMemoryTests {
    private static let connections = 500

    @Test("HTTP/1, after a request")
    func http1() {
        self.measure("HTTP/1 connection") { waypoint in
            let channel = waypoint.accept()
            channel.deliver("GET / HTTP/1.1\r\nhost: cart\r\n\r\n")
            waypoint.answerAll()
            _ = channel.take()
            return channel
        }
    }

    @Test("HTTP/2, after requests of two kinds", arguments: [2, 40])
    func http2(requests: Int) {
        self.measure("HTTP/2 connection after \(requests) requests") { waypoint in
            let peer = waypoint.client()
            for request in 0..<requests {
                peer.headers(UInt32(2 * request + 1), sampleGet + [("x-kind", "\(request % 2)")])
                waypoint.answerAll()
                peer.listen()
            }
            return peer.channel
        }
    }

    private func measure(_ what: String, _ connect: (MemoryWaypoint) -> MemoryChannel) {
        let waypoint = MemoryWaypoint()
        let channels = (0..<Self.connections).map { _ in connect(waypoint) }
        #expect(waypoint.server.occupancy.connections == Self.connections)
        waypoint.settle(after: .seconds(60))
        // The test's own half stays where it is.
        let before = Self.heapBytes()
        for channel in channels { channel.closeByPeer(reset: true) }
        let after = Self.heapBytes()
        #expect(waypoint.server.occupancy.connections == 0)
        print("memory: \((before - after) / Self.connections) bytes for each \(what)")
    }

    /// What malloc has given out: of all its arenas, without what is free in them.
    private static func heapBytes() -> Int {
        // Not in the headers that Swift sees.
        typealias MallocInfo = @convention(c) (CInt, UnsafeMutablePointer<FILE>) -> CInt
        guard let symbol = dlsym(nil, "malloc_info") else { preconditionFailure("no malloc_info(3)") }
        let mallocInfo = unsafeBitCast(symbol, to: MallocInfo.self)
        var text: UnsafeMutablePointer<CChar>?
        var length = 0
        guard let stream = open_memstream(&text, &length) else { preconditionFailure("no memory") }
        _ = mallocInfo(0, stream)
        fclose(stream)
        defer { free(text) }
        let totals = text.map { String(cString: $0) }?.components(separatedBy: "</heap>").last ?? ""
        func size(_ element: String) -> Int {
            guard let line = totals.split(separator: "\n").first(where: { $0.hasPrefix(element) }) else { return 0 }
            return Int(line.split(separator: "\"").last { Int($0) != nil } ?? "") ?? 0
        }
        return size("<system type=\"current\"") + size("<total type=\"mmap\"") - size("<total type=\"fast\"")
            - size("<total type=\"rest\"")
    }
}
