import Foundation
import MeshExchange
import MeshLinux
import MeshModel
import MeshRoutes
import MeshTestSupport
import Testing

/// Programs of other projects on both sides of a waypoint.
@Suite("HTTP/2 with other programs")
struct HTTP2InteropTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let python = Self.root.appending(path: ".tools/python/bin/python").path

    private static func program(_ name: String) -> String {
        Self.root.appending(path: "Tests/MeshExchangeTests/Programs/\(name)").path
    }

    /// A Python program that has written the port where it serves.
    private final class Server: Sendable {
        let port: UInt16
        private let program: ChildProgram

        init(_ name: String) async throws {
            let file = FileManager.default.temporaryDirectory.appending(path: "martlet-port-\(UUID())").path
            self.program = try ChildProgram(
                [HTTP2InteropTests.python, HTTP2InteropTests.program(name), "server", file])
            defer { try? FileManager.default.removeItem(atPath: file) }
            while !FileManager.default.fileExists(atPath: file) {
                guard self.program.isRunning else { throw Failed(description: "\(name) did not start") }
                try await Task.sleep(for: .milliseconds(20))
            }
            self.port = UInt16(try String(contentsOfFile: file, encoding: .utf8)) ?? 0
        }
    }

    private struct Failed: Error, CustomStringConvertible { let description: String }

    private static func run(_ arguments: [String]) async throws -> String {
        try await offThread {
            let output = try Program.run(arguments, timeout: .seconds(240))
            return output.standardOutput + output.standardError
        }
    }

    @Test("gRPC: all four kinds of call, deadlines, cancellation, statuses", arguments: [false, true])
    func grpc(_ isMeshed: Bool) async throws {
        let server = try await Server("grpc_peer.py")
        let rig = try Rig(
            servers: [server.port], isMeshed: isMeshed, speaks: .grpc,
            plan: { request, _, backend in
                guard let status = request.path.components(separatedBy: "/Status").dropFirst().first else {
                    return .forward(ForwardPlan(request: request, backend: backend))
                }
                return .answer(LocalAnswer(Int(status) ?? 0, "said: 50% ü"))
            })
        let said = try await Self.run([
            Self.python, Self.program("grpc_peer.py"), "client", String(rig.outboundPort),
        ])
        #expect(said == "OK\n")
        await rig.stop()
    }

    @Test("the Python package h2 on both sides") func h2() async throws {
        let server = try await Server("h2_peer.py")
        let rig = try Rig(servers: [server.port], speaks: .http2)
        let said = try await Self.run([Self.python, Self.program("h2_peer.py"), "client", String(rig.outboundPort)])
        #expect(said == "OK\n")
        await rig.stop()
    }

    @Test("curl and nghttp ask an HTTP/1 endpoint") func curl() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let url = "http://127.0.0.1:\(rig.outboundPort)"
        // One request each: curl 7.88 cannot use such a connection twice, with no server.
        let curl = ["curl", "-sS", "--http2-prior-knowledge", "--max-time", "60", "-w", " %{http_version}"]
        #expect(try await Self.run(curl + ["\(url)/one"]) == "/one 2")
        #expect(try await Self.run(curl + ["-d", "posted", "\(url)/two"]) == "posted 2")
        let many = try await Self.run(["nghttp", "-nv", "\(url)/a", "\(url)/b", "\(url)/c"])
        #expect(many.components(separatedBy: ":status: 200").count == 4)
        #expect(!many.contains("error_code=PROTOCOL_ERROR"))
        await rig.stop()
    }

    @Test("h2load: many requests, a hundred at once, no error") func load() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let said = try await Self.run([
            "h2load", "-n", "3000", "-c", "2", "-m", "100", "http://127.0.0.1:\(rig.outboundPort)/x",
        ])
        #expect(said.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(said)")
        await rig.stop()
    }
}
