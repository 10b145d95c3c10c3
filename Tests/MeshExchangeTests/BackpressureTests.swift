import Glibc
import MeshExchange
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("A side that does not keep up", .timeLimit(.minutes(3)))
struct BackpressureTests {
    private static let bytes = 60 << 20
    /// What may be on its way between one end and the other: socket buffers, windows of two tunnels, queues.
    private static let underWayMax = 40 << 20
    private static let piece = patternBytes(1 << 20, seed: 9)

    /// How many bytes somebody has got rid of, and whether that goes on.
    private final class Progress: Sendable {
        private let sent = Atomic(0)
        var count: Int { self.sent.load(ordering: .relaxed) }
        func add(_ bytes: Int) { self.sent.add(bytes, ordering: .relaxed) }

        /// Returns when nothing has moved for half a second.
        func standstill() {
            var last = -1
            while self.count != last {
                last = self.count
                usleep(500_000)
            }
        }
    }

    /// By memcmp: octet by octet a debug build takes longer than the peer waits.
    private static func isPattern(_ bytes: [UInt8]) -> Bool {
        var at = 0
        while at < bytes.count {
            let length = min(bytes.count - at, Self.piece.count)
            let isEqual = bytes.withUnsafeBytes { bytes in
                Self.piece.withUnsafeBytes { memcmp(bytes.baseAddress! + at, $0.baseAddress!, length) == 0 }
            }
            if !isEqual { return false }
            at += length
        }
        return true
    }

    @Test("a slow client of 60 MB: nothing is lost, little is held, others go on", arguments: [false, true])
    func slowClient(isMeshed: Bool) async throws {
        let progress = Progress()
        let server = try HTTPServer(scripted: { peer, note in
            while let request = try peer.request() {
                note(request)
                guard request.target == "/big" else {
                    try peer.send(ok("small"))
                    continue
                }
                try peer.send("HTTP/1.1 200 OK\r\ncontent-length: \(Self.bytes)\r\n\r\n")
                for _ in 0..<(Self.bytes >> 20) {
                    try peer.send(Self.piece)
                    progress.add(Self.piece.count)
                }
            }
        })
        let rig = try Rig(servers: [server.port], isMeshed: isMeshed)
        let isIntact = try await offThread {
            let slow = try rig.connect()
            try slow.send(get("/big"))
            guard let head = try slow.head(), head.status == 200 else { return false }
            progress.standstill()
            #expect(progress.count < Self.underWayMax, "\(progress.count >> 20) MB are held")
            let other = try rig.connect()
            for _ in 0..<3 {
                try other.send(get("/small"))
                #expect(try other.response().text == "small")
            }
            return Self.isPattern(try slow.bytes(Self.bytes))
        }
        #expect(isIntact)
        let report = await rig.exchanges.reports.wait { $0.contains { $0.responseBytes == UInt64(Self.bytes) } }.last
        #expect(report?.flags.isEmpty == true)
        await rig.settled { $0.connections == 0 && $0.active == 0 }
        await rig.stop()
    }

    @Test("a slow server of 60 MB", arguments: [false, true])
    func slowServer(isMeshed: Bool) async throws {
        let progress = Progress()
        let result = Log<Bool>()
        let server = try HTTPServer(scripted: { peer, note in
            while let head = try peer.head() {
                note(head)
                if head.target == "/big" {
                    progress.standstill()
                    #expect(progress.count < Self.underWayMax, "\(progress.count >> 20) MB are held")
                    result.add(Self.isPattern(try peer.bytes(Self.bytes)))
                }
                try peer.send(ok("done"))
            }
        })
        let rig = try Rig(servers: [server.port], isMeshed: isMeshed)
        try await offThread {
            let client = try rig.connect()
            try client.send("PUT /big HTTP/1.1\r\nhost: a\r\ncontent-length: \(Self.bytes)\r\n\r\n")
            for _ in 0..<(Self.bytes >> 20) {
                try client.send(Self.piece)
                progress.add(Self.piece.count)
            }
            #expect(try client.response().text == "done")
            try client.send(get("/small"))
            #expect(try client.response().text == "done")
        }
        #expect(result.all == [true])
        let reports = await rig.exchanges.reports.wait(count: 2)
        #expect(reports.first?.requestBytes == UInt64(Self.bytes) && reports.allSatisfy { $0.flags.isEmpty })
        await rig.stop()
    }

    @Test("a client that sends requests and reads no answers is not served for ever")
    func neverReads() async throws {
        let body = String(repeating: "x", count: 60_000)
        let server = try HTTPServer { _ in ok(body) }
        let rig = try Rig(servers: [server.port])
        let served = Progress()
        let log = server.requests
        // 600 MB of answers, if they were all made.
        let requests = 10_000
        try await offThread {
            let client = try rig.connect()
            try client.send(String(repeating: get("/"), count: requests))
            var last = -1
            while log.count != last {
                last = log.count
                usleep(500_000)
            }
            served.add(log.count)
            #expect(log.count < Self.underWayMax / 60_000, "\(log.count) answers are held")
            for _ in 0..<(log.count + 10) { #expect(try client.response().body.count == 60_000) }
        }
        await rig.settled { $0.connections == 0 && $0.exchanges == 0 }
        await rig.stop()
    }
}
