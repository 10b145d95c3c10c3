import Foundation
import MeshCertificates
import MeshTelemetry
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("The file of revocation lists", .timeLimit(.minutes(2)))
struct RevocationWatchTests {
    private let ca: TestCA
    private let leaf: [UInt8]
    /// As the kubelet mounts a ConfigMap: `crl.pem` → `..data/crl.pem`, `..data` → a directory of one version.
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("crl-\(UUID())")
    private let memory = Memory()

    init() throws {
        self.ca = try TestCA()
        self.leaf = try self.ca.issue(uris: ["spiffe://cluster.local/ns/default/sa/a"]).chain[0]
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: self.folder.appendingPathComponent("crl.pem").path, withDestinationPath: "..data/crl.pem")
    }

    private var path: String { self.folder.appendingPathComponent("crl.pem").path }

    private func mount(_ bytes: [UInt8]) throws {
        let version = ".." + UUID().uuidString
        let directory = self.folder.appendingPathComponent(version)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        try Data(bytes).write(to: directory.appendingPathComponent("crl.pem"))
        let beside = self.folder.appendingPathComponent("..data_tmp").path
        try FileManager.default.createSymbolicLink(atPath: beside, withDestinationPath: version)
        guard rename(beside, self.folder.appendingPathComponent("..data").path) == 0 else {
            throw POSIXError(.init(rawValue: errno) ?? .EIO)
        }
    }

    private func list(_ revoked: [[UInt8]] = []) throws -> [UInt8] {
        TestCA.pem(list: try self.ca.revocationList(of: revoked))
    }

    /// What was published, as words, in order.
    private final class Published: Sendable {
        private let (stream, continuation) = AsyncStream.makeStream(of: String.self)
        func take(_ revocation: Revocation) {
            switch revocation {
            case .ignored: self.continuation.yield("ignored")
            case .list(let list): self.continuation.yield("\(list.entries) revoked")
            case .unreadable: self.continuation.yield("unreadable")
            }
        }
        func next() async -> String {
            for await word in self.stream { return word }
            return "nothing"
        }
    }

    /// Runs `body` beside a watch that looks often.
    private func watching(_ body: (Published) async throws -> Void) async throws {
        let published = Published()
        let log = MeshLog(destination: self.memory)
        let watch = RevocationWatch(path: self.path, interval: .milliseconds(20), log: log.logger("crl")) {
            published.take($0)
        }
        watch.start()
        let running = Task { await watch.run() }
        defer {
            running.cancel()
            try? FileManager.default.removeItem(at: self.folder)
        }
        try await body(published)
        running.cancel()
        await running.value
        await log.flush()
    }

    @Test("a missing file revokes nothing; what appears, and what is swapped in, is taken over")
    func appears() async throws {
        try await self.watching { published in
            #expect(await published.next() == "0 revoked")
            try self.mount(try self.list([self.leaf]))
            #expect(await published.next() == "1 revoked")
            try self.mount(try self.list())
            #expect(await published.next() == "0 revoked")
            try self.mount([])
            #expect(await published.next() == "0 revoked")
        }
        #expect(self.memory.lines.contains { $0.contains("no revocation list is there yet") })
    }

    @Test("a broken one keeps the last good one, and says so; so does a file that is gone")
    func keeps() async throws {
        try self.mount(try self.list([self.leaf]))
        try await self.watching { published in
            #expect(await published.next() == "1 revoked")
            try self.mount(Array("-----BEGIN X509 CRL-----\nAAAA\n".utf8))
            try await eventually { self.said("the last good one stays in force") }
            try FileManager.default.removeItem(at: self.folder.appendingPathComponent("..data"))
            try await eventually { self.said("what it said stays in force") }
            // Neither published anything: the next is what comes now.
            try self.mount(try self.list([self.leaf, self.leaf]))
            #expect(await published.next() == "2 revoked")
        }
    }

    @Test("one that is unreadable from the start closes the mesh to peers until it is readable, or taken away")
    func unreadable() async throws {
        try self.mount(Array("rubbish".utf8))
        try await self.watching { published in
            #expect(await published.next() == "unreadable")
            try await eventually { self.said("so all HBONE peers are refused") }
            try FileManager.default.removeItem(at: self.folder.appendingPathComponent("..data"))
            #expect(await published.next() == "0 revoked")
            try self.mount(try self.list([self.leaf]))
            #expect(await published.next() == "1 revoked")
        }
    }

    @Test("one that should have been replaced is in force, with one warning")
    func outdated() async throws {
        try self.mount(
            TestCA.pem(list: try self.ca.revocationList(of: [self.leaf], validity: -7200..<(-3600))))
        try await self.watching { published in
            #expect(await published.next() == "1 revoked")
            try await eventually { self.said("should have been replaced") }
        }
        #expect(self.memory.lines.count { $0.contains("should have been replaced") } == 1)
    }

    /// The log is written by a thread of its own.
    private func said(_ text: String) -> Bool { self.memory.lines.contains { $0.contains(text) } }
}

/// Looks until it is so; the test's own time limit bounds it.
private func eventually(_ condition: () -> Bool) async throws {
    while !condition() { try await Task.sleep(for: .milliseconds(10)) }
}
