import Foundation
import Glibc
import MeshLinux
import MeshTestSupport
import Testing

/// Network namespaces that reach one another over a bridge, as pods do.
final class PodNetwork: Sendable {
    static let isPossible =
        getuid() == 0
        && ["ip", "iptables-restore", "curl", "python3", "setpriv"].allSatisfy { PeerProgram.find($0) != nil }

    static func address(_ number: Int) -> String { "10.77.0.\(number)" }

    private let prefix = "msc\(UInt32.random(in: 0 ... .max) % 0xffffff)"
    private let pods: [String]
    private var bridge: String { "\(self.prefix)-br" }

    /// - Parameter pods: by name, each at ``address(_:)`` of its place from 1.
    init(_ pods: [String]) throws {
        self.pods = pods
        do {
            try Self.run("ip netns add \(self.bridge)")
            try Self.run("ip -n \(self.bridge) link add name br0 type bridge")
            try Self.run("ip -n \(self.bridge) link set br0 up")
            // Where addresses of services are routed to, which nobody there answers.
            try Self.run("ip -n \(self.bridge) addr add 10.77.255.254/16 dev br0")
            for (number, pod) in pods.enumerated() { try self.add(pod, number + 1) }
        } catch {
            self.remove()
            throw error
        }
    }

    private func add(_ pod: String, _ number: Int) throws {
        let name = self.namespace(pod)
        try Self.run("ip netns add \(name)")
        try Self.run("ip -n \(self.bridge) link add p\(number) type veth peer name eth0 netns \(name)")
        try Self.run("ip -n \(self.bridge) link set p\(number) master br0 up")
        for command in [
            "link set lo up", "addr add \(Self.address(number))/16 dev eth0", "link set eth0 up",
            "route add default via 10.77.255.254",
        ] { try Self.run("ip -n \(name) \(command)") }
    }

    func namespace(_ pod: String) -> String { "\(self.prefix)-\(pod)" }

    func remove() {
        for name in self.pods.map(self.namespace) + [self.bridge] { _ = try? Self.run("ip netns del \(name)") }
    }

    func addAddress(_ address: String, to pod: String) throws {
        try Self.run("ip -n \(self.namespace(pod)) addr add \(address)/32 dev lo")
    }

    /// The command line of a program inside.
    func inside(_ pod: String, _ command: [String]) -> [String] {
        ["ip", "netns", "exec", self.namespace(pod)] + command
    }

    /// What injection writes into a pod's namespace: Istio's rules for sidecars of the group 1337.
    func redirect(_ pod: String) throws {
        let rules = """
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_REDIRECT - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A PREROUTING -p tcp -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
            -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
            -A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
            -A ISTIO_OUTPUT -p tcp -j ISTIO_REDIRECT
            COMMIT

            """
        let output = try Program.run(self.inside(pod, ["iptables-restore"]), input: rules)
        guard output.exitCode == 0 else { throw Failure(description: output.standardError) }
    }

    struct Failure: Error, CustomStringConvertible { let description: String }

    @discardableResult
    private static func run(_ command: String) throws -> String {
        let output = try Program.run(command.split(separator: " ").map(String.init))
        guard output.exitCode == 0 else { throw Failure(description: "\(command): \(output.standardError)") }
        return output.standardOutput
    }

    // MARK: What runs inside

    /// Answers each request with a line for its name, its client and each of its headers.
    static let application = """
        import http.server, sys
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def do_GET(self):
                lines = ['name: ' + sys.argv[1], 'client: ' + self.client_address[0], 'path: ' + self.path]
                lines += [k.lower() + ': ' + v for k, v in self.headers.items()]
                body = '\\n'.join(lines).encode()
                self.send_response(200)
                self.send_header('content-length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, *args): pass
        http.server.ThreadingHTTPServer(('0.0.0.0', int(sys.argv[2])), Handler).serve_forever()
        """

    func startApplication(_ pod: String, port: Int) throws -> ChildProgram {
        try ChildProgram(self.inside(pod, ["python3", "-c", Self.application, pod, "\(port)"]))
    }

    /// Speaks first.
    private static let greeter = """
        import socket, sys
        server = socket.create_server(('0.0.0.0', int(sys.argv[1])))
        while True:
            client, _ = server.accept()
            client.sendall(b'hello')
            client.close()
        """
    private static let listener = """
        import socket, sys
        print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).recv(16).decode())
        """

    /// Whenever it is asked, it asks on the one connection that it opened at its start, and answers with the same status; 599:
    /// that connection is gone.
    private static let keeper = """
        import http.client, http.server, sys
        kept = http.client.HTTPConnection(sys.argv[2], int(sys.argv[3]))
        kept.connect()
        kept.auto_open = 0
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    kept.request('GET', self.path, headers={'host': sys.argv[4]})
                    answer = kept.getresponse()
                    answer.read()
                    status = answer.status
                except (OSError, http.client.HTTPException):
                    kept.close()
                    status = 599
                self.send_response(status)
                self.end_headers()
            def log_message(self, *args): pass
        http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
        """

    /// - Parameters:
    ///   - port: of its own, at the pod's loopback.
    ///   - target: address and port that it keeps a connection to.
    func startKeeper(_ pod: String, port: Int, target: (String, Int), host: String) throws -> ChildProgram {
        try ChildProgram(
            self.inside(pod, ["python3", "-c", Self.keeper, "\(port)", target.0, "\(target.1)", host]))
    }

    func startGreeter(_ pod: String, port: Int) throws -> ChildProgram {
        try ChildProgram(self.inside(pod, ["python3", "-c", Self.greeter, "\(port)"]))
    }

    /// What a server says first.
    func hear(_ pod: String, _ address: String, _ port: Int) async throws -> String {
        let command = self.inside(pod, ["python3", "-c", Self.listener, address, "\(port)"])
        return try await offThread { try Program.run(command, timeout: .seconds(30)) }.standardOutput
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    struct Answer {
        /// 0: there was none.
        var status: Int
        var lines: [String]
        var name: String { self.value("name") ?? "" }

        func value(_ name: String) -> String? {
            self.lines.first { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.count + 2)) }
        }
    }

    /// Asks from inside a pod.
    /// - Parameter asProxy: as who is not redirected.
    func get(_ pod: String, _ url: String, headers: [String] = [], asProxy: Bool = false) async throws -> Answer {
        let user = asProxy ? ["setpriv", "--regid", "1337", "--clear-groups"] : []
        let command = self.inside(
            pod,
            user + ["curl", "--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]
                + headers.flatMap { ["--header", $0] } + [url])
        let output = try await offThread { try Program.run(command, timeout: .seconds(30)) }
        let lines = output.standardOutput.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        return Answer(status: Int(lines.last ?? "") ?? 0, lines: lines)
    }
}
