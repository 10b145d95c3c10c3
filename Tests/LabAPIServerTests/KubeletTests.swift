import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshTestSupport
import Testing

/// Streams to kubelets, with a stand-in kubelet and a client written in Python: what crosses the wire is theirs.
@Suite(
    "Streams to a kubelet", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")), .serialized)
struct KubeletTests {
    private struct OneNode: NodeConnector {
        let socket: String
        func kubeletSocket(node: String) async -> String? { node == "n" ? self.socket : nil }
    }

    /// Answers `/containerLogs` with text, `/exec` with 101, a greeting in the same packet, then an upper-case echo,
    /// `/attach` with 101, some text and the end in one go, and everything else with 403.
    private static let kubelet = """
        import base64, hashlib, os, re, socket, sys, threading
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
                c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nhello:")
                while True:
                    if rest: c.sendall(rest.upper())
                    rest = c.recv(4096)
                    if not rest: break
            elif b"/attach/" in line:
                c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nall at once")
            elif b"/portForward/" in line and b"sec-websocket-key:" in head.lower():
                forward(c, line, head)
            else:
                c.sendall(b"HTTP/1.1 403 Forbidden\\r\\nContent-Length: 5\\r\\n\\r\\nnever")
            c.close()
        def frame(payload): return bytes([130, len(payload)]) + payload
        def forward(c, line, head):
            key = re.search(rb"(?im)^sec-websocket-key: *(\\S+)", head)[1]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Accept: " + accept
                + b"\\r\\nSec-WebSocket-Protocol: v4.channel.k8s.io\\r\\n\\r\\n")
            port = int(re.search(rb"ports=(\\d+)", line)[1])
            for channel in (0, 1): c.sendall(frame(bytes([channel]) + port.to_bytes(2, "little")))
            if port == 1: c.sendall(frame(b"\\1nobody listens there"))
            asked = b""
            while b"\\r\\n\\r\\n" not in asked:
                start = c.recv(2, socket.MSG_WAITALL)
                if not start: return
                size = start[1] & 127
                if size == 126: size = int.from_bytes(c.recv(2, socket.MSG_WAITALL), "big")
                mask, data = c.recv(4, socket.MSG_WAITALL), c.recv(size, socket.MSG_WAITALL)
                data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
                if start[0] & 15 == 8: return
                asked += data[1:]
            said = asked.split(b"\\r\\n")[0]
            c.sendall(frame(b"\\0HTTP/1.1 202 Accepted\\r\\nContent-Length: %d\\r\\n" % len(said)))
            c.sendall(frame(b"\\0\\r\\n" + said[:5]) + frame(b"\\0" + said[5:]))
            c.recv(1)
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
        c.sendall(("POST %s HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer %s\\r\\nConnection: Upgrade\\r\\nUpgrade: %s\\r\\n\\r\\n" % (target, token, sys.argv[5])).encode() + b"early,")
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

    private func output(_ script: String, _ arguments: [String]) async throws -> String {
        let result = try await programs.run(["python3", "-c", script] + arguments)
        return result.text + result.errorText
    }

    /// A stand-in kubelet that listens.
    private final class Kubelet {
        // Unix socket paths are short.
        let socket = "/tmp/kubelet-\(UUID().uuidString.prefix(8)).sock"
        private let process: ChildProgram

        init() throws {
            self.process = try ChildProgram(["/usr/bin/python3", "-c", KubeletTests.kubelet, self.socket])
        }

        /// It names its socket when it listens.
        func listens() async throws {
            while !FileManager.default.fileExists(atPath: self.socket) {
                try #require(self.process.isRunning, "the stand-in kubelet ended")
                try await Task.sleep(for: .milliseconds(5))
            }
        }

        deinit {
            self.process.stop()
            try? FileManager.default.removeItem(atPath: self.socket)
        }
    }

    @Test(
        "logs pass without the caller's credentials, exec is spliced byte for byte, refusals keep their status",
        .timeLimit(.minutes(2)))
    func streams() async throws {
        let scratch = try Scratch()
        let kubelet = try Kubelet()
        try await kubelet.listens()
        let configuration = APIServerConfiguration(
            endpoints: [.init(host: "127.0.0.1", port: 0)], pkiDirectory: scratch.path,
            nodeConnector: OneNode(socket: kubelet.socket))
        try await serving(configuration) { server, port in
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
                ["https://127.0.0.1:\(port)\(pod)/log?tailLines=1", server.pki.adminToken, scratch.path + "/ca.crt"])
            #expect(logs.contains("GET /containerLogs/default/p/c?tailLines=1 HTTP/1.1\nclean"), "\(logs)")
            func upgrade(_ target: String, to name: String = "websocket") async throws -> String {
                try await self.output(
                    Self.client, ["\(port)", server.pki.adminToken, target, scratch.path + "/ca.crt", name])
            }
            let exec = try await upgrade(pod + "/exec?command=x&container=c&stdout=true")
            #expect(exec.hasPrefix("HTTP/1.1 101 Switching Protocols"), "\(exec)")
            #expect(exec.contains("hello:EARLY,LATER;"), "\(exec)")
            let refused = try await upgrade(pod + "/portforward")
            #expect(refused.hasPrefix("HTTP/1.1 500") && refused.contains("never"), "\(refused)")
            let foreign = try await upgrade(pod + "/portforward", to: "SPDY/3.1")
            #expect(foreign.hasPrefix("HTTP/1.1 400") && foreign.contains("WebSocket, not SPDY/3.1"), "\(foreign)")
            let hasty = try await upgrade(pod + "/attach?container=c&stdout=true")
            #expect(hasty.hasPrefix("HTTP/1.1 101 Switching Protocols"), "\(hasty)")
            #expect(hasty.contains("\r\n\r\nall at once"), "\(hasty)")
        }
        withExtendedLifetime(kubelet) {}
    }

    @Test("a client asks a server inside a pod through the API server", .timeLimit(.minutes(2)))
    func podRequest() async throws {
        let scratch = try Scratch()
        let kubelet = try Kubelet()
        try await kubelet.listens()
        let configuration = APIServerConfiguration(
            endpoints: [.init(host: "127.0.0.1", port: 0)], pkiDirectory: scratch.path,
            nodeConnector: OneNode(socket: kubelet.socket))
        try await serving(configuration) { server, port in
            try await server.cluster.create(
                .serviceAccounts, KubeObject(.serviceAccounts, namespace: "default", name: "default"))
            try await server.cluster.create(
                .pods,
                KubeObject(
                    .pods, namespace: "default", name: "p",
                    ["spec": ["nodeName": "n", "containers": [["name": "c", "image": "i"]]]]))
            let roots = try String(contentsOfFile: scratch.path + "/ca.crt", encoding: .utf8)
            let client = try KubeClient(
                KubeConfiguration(
                    server: "https://127.0.0.1:\(port)", trust: .authorities(roots),
                    credential: .token(server.pki.adminToken)))
            do {
                let answer = try await client.podRequest(
                    namespace: "default", pod: "p", port: 15000, method: "POST", path: "/logging?level=debug")
                #expect(answer.status == 202)
                #expect(String(decoding: answer.body, as: UTF8.self) == "POST /logging?level=debug HTTP/1.1")
                await #expect {
                    try await client.podRequest(namespace: "default", pod: "p", port: 1, path: "/")
                } throws: { "\($0)".contains("nobody listens there") }
                await #expect {
                    try await client.podRequest(namespace: "default", pod: "missing", port: 1, path: "/")
                } throws: { ($0 as? StatusError)?.isNotFound == true }
            } catch {
                // A client that is not shut down ends the process.
                try? await client.shutdown()
                throw error
            }
            try await client.shutdown()
        }
        withExtendedLifetime(kubelet) {}
    }
}
