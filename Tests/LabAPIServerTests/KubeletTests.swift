import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import Testing

/// Streams to kubelets, with a stand-in kubelet and a client written in Python: what crosses the wire is theirs.
@Suite(
    "Streams to a kubelet", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")), .serialized)
struct KubeletTests {
    private struct OneNode: NodeConnector {
        let socket: String
        func kubeletSocket(node: String) async -> String? { node == "n" ? self.socket : nil }
    }

    /// Answers `/containerLogs` with text, `/exec` with 101, a greeting in the same packet, then an upper-case echo, and
    /// everything else with 403.
    private static let kubelet = """
        import os, socket, sys, threading
        path = sys.argv[1]
        server = socket.socket(socket.AF_UNIX)
        server.bind(path + ".new"); server.listen(8); os.rename(path + ".new", path)
        def serve(c):
            head = b""
            while b"\\r\\n\\r\\n" not in head: head += c.recv(4096)
            head, rest = head.split(b"\\r\\n\\r\\n", 1)
            line = head.split(b"\\r\\n")[0]
            if b"/containerLogs/" in line:
                body = line + b"\\n" + (b"secret" if b"uthorization" in head else b"clean") + b"\\n"
                c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n%x\\r\\n%s\\r\\n0\\r\\n\\r\\n" % (len(body), body))
            elif b"/exec/" in line:
                c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: SPDY/3.1\\r\\n\\r\\nhello:")
                while True:
                    if rest: c.sendall(rest.upper())
                    rest = c.recv(4096)
                    if not rest: break
            else:
                c.sendall(b"HTTP/1.1 403 Forbidden\\r\\nContent-Length: 5\\r\\n\\r\\nnever")
            c.close()
        while True:
            c, _ = server.accept()
            threading.Thread(target=serve, args=(c,), daemon=True).start()
        """

    /// Sends an upgrade with bytes right behind its head; prints everything that comes back.
    private static let client = """
        import socket, ssl, sys
        port, token, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
        context = ssl.create_default_context(cafile=sys.argv[4])
        c = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="localhost")
        c.sendall(("POST %s HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer %s\\r\\nConnection: Upgrade\\r\\nUpgrade: SPDY/3.1\\r\\n\\r\\n" % (target, token)).encode() + b"early,")
        got = b""
        sent = False
        while True:
            data = c.recv(4096)
            if not data: break
            got += data
            if b"EARLY," in got and not sent:
                c.sendall(b"later;"); sent = True
            if b"LATER;" in got: break
        print(got.decode())
        """

    private func python(_ script: String, _ arguments: [String], output: FileHandle) -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        process.arguments = ["-c", script] + arguments
        process.standardOutput = output
        process.standardError = output
        return process
    }

    private func output(_ script: String, _ arguments: [String], _ scratch: Scratch) async throws -> String {
        let file = scratch.path + "/out-" + UUID().uuidString
        _ = FileManager.default.createFile(atPath: file, contents: nil)
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        let process = self.python(script, arguments, output: handle)
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            process.terminationHandler = { _ in continuation.resume() }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        try handle.close()
        return try String(contentsOfFile: file, encoding: .utf8)
    }

    @Test("logs pass without the caller's credentials, exec is spliced byte for byte, refusals keep their status")
    func streams() async throws {
        let scratch = try Scratch()
        // Unix socket paths are short.
        let socket = "/tmp/kubelet-\(UUID().uuidString.prefix(8)).sock"
        let kubelet = self.python(Self.kubelet, [socket], output: .nullDevice)
        try kubelet.run()
        defer {
            kubelet.terminate()
            try? FileManager.default.removeItem(atPath: socket)
        }
        while !FileManager.default.fileExists(atPath: socket), kubelet.isRunning { await Task.yield() }
        let server = try APIServer(
            configuration: APIServerConfiguration(
                endpoints: [.init(host: "127.0.0.1", port: 0)], pkiDirectory: scratch.path,
                nodeConnector: OneNode(socket: socket)))
        let (ready, continuation) = AsyncStream.makeStream(of: Int.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run { continuation.yield($0[0].port) } }
            var iterator = ready.makeAsyncIterator()
            let port = try #require(await iterator.next())
            let cluster = server.cluster
            try await cluster.create(
                .serviceAccounts, KubeObject(.serviceAccounts, namespace: "default", name: "default"))
            try await cluster.create(
                .pods,
                KubeObject(
                    .pods, namespace: "default", name: "p",
                    ["spec": ["nodeName": "n", "containers": [["name": "c", "image": "i"]]]]))
            _ = try await cluster.patch(
                .pods, namespace: "default", name: "p", subresource: "status",
                .merge(["status": ["containerStatuses": [["name": "c", "state": ["running": [:]]]]]]))
            let pod = "/api/v1/namespaces/default/pods/p"
            let logs = try await self.output(
                "import sys,urllib.request,ssl;print(urllib.request.urlopen(urllib.request.Request(sys.argv[1],headers={'Authorization':'Bearer '+sys.argv[2]}),context=ssl.create_default_context(cafile=sys.argv[3])).read().decode())",
                ["https://127.0.0.1:\(port)\(pod)/log?tailLines=1", server.pki.adminToken, scratch.path + "/ca.crt"],
                scratch)
            #expect(logs.contains("GET /containerLogs/default/p/c?tailLines=1 HTTP/1.1\nclean"), "\(logs)")
            func upgrade(_ target: String) async throws -> String {
                try await self.output(
                    Self.client, ["\(port)", server.pki.adminToken, target, scratch.path + "/ca.crt"], scratch)
            }
            let exec = try await upgrade(pod + "/exec?command=x&container=c&stdout=true")
            #expect(exec.hasPrefix("HTTP/1.1 101 Switching Protocols"), "\(exec)")
            #expect(exec.contains("hello:EARLY,LATER;"), "\(exec)")
            let refused = try await upgrade(pod + "/portforward")
            #expect(refused.hasPrefix("HTTP/1.1 500") && refused.contains("never"), "\(refused)")
            group.cancelAll()
        }
    }
}
