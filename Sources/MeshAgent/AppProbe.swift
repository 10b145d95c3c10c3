internal import AsyncHTTPClient
internal import GRPCCore
internal import GRPCNIOTransportHTTP2
internal import KubeAPI
package import MeshProcess
internal import NIOCore
internal import NIOPosix
internal import NIOSSL

/// A question that the kubelet would ask the application, were its connections not the mesh's. Injection makes it ask us
/// instead; we ask the application over the pod's loopback device, where nothing is redirected.
package struct AppProbe: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case http(scheme: String, port: Int, path: String, headers: [Header])
        case tcp(port: Int)
        /// The health protocol of gRPC.
        case grpc(port: Int, service: String)
    }
    package struct Header: Hashable, Sendable {
        package var name, value: String
    }
    package var kind: Kind
    package var timeout: Duration

    static let variable = "ISTIO_KUBE_APP_PROBERS"

    /// - Parameter text: an object of probes as in a pod, by the path that the kubelet asks us for.
    package static func all(_ text: String) throws(InvalidSetting) -> [String: AppProbe] {
        guard let json = try? JSONValue(parsing: text), let members = json.object else {
            throw InvalidSetting(Self.variable, text, wanted: "a JSON object of probes by path")
        }
        var probes: [String: AppProbe] = [:]
        for (path, json) in members {
            guard path.hasPrefix("/app-health/"), let probe = AppProbe(json) else {
                throw InvalidSetting(
                    Self.variable, "\(path): \(json)",
                    wanted: "/app-health/<container>/<probe> with httpGet, tcpSocket or grpc, and a number as port")
            }
            probes[path] = probe
        }
        return probes
    }

    private init?(_ json: JSONValue) {
        func port(_ json: JSONValue) -> Int? {
            (json["port"]?.int.map(Int.init) ?? json["port"]?.string.flatMap { Int($0) })
                .flatMap { (1...65535).contains($0) ? $0 : nil }
        }
        self.timeout = .seconds(max(json["timeoutSeconds"]?.int ?? 1, 1))
        if let get = json["httpGet"], get.object != nil {
            guard let port = port(get) else { return nil }
            let path = get["path"]?.string ?? "/"
            var headers = (get["httpHeaders"]?.array ?? []).map {
                Header(name: $0["name"]?.string ?? "", value: $0["value"]?.string ?? "")
            }
            if let host = get["host"]?.string, !host.isEmpty,
                !headers.contains(where: { $0.name.lowercased() == "host" })
            {
                headers.append(Header(name: "Host", value: host))
            }
            self.kind = .http(
                scheme: get["scheme"]?.string?.lowercased() == "https" ? "https" : "http", port: port,
                path: path.hasPrefix("/") ? path : "/" + path, headers: headers.filter { !$0.name.isEmpty })
        } else if let socket = json["tcpSocket"], let port = port(socket) {
            self.kind = .tcp(port: port)
        } else if let grpc = json["grpc"], let port = port(grpc) {
            self.kind = .grpc(port: port, service: grpc["service"]?.string ?? "")
        } else {
            return nil
        }
    }
}

/// Asks the application.
final class AppProber: Sendable {
    /// Nothing is known about the application's certificate, as the kubelet knows nothing.
    private let client: HTTPClient

    init() {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateVerification = .none
        var configuration = HTTPClient.Configuration(tlsConfiguration: tls)
        configuration.redirectConfiguration = .disallow
        self.client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    func close() async { try? await self.client.shutdown() }

    /// - Returns: nil when the application is well, else what is wrong.
    func ask(_ probe: AppProbe) async -> String? {
        switch probe.kind {
        case .http(let scheme, let port, let path, let headers):
            await self.http("\(scheme)://127.0.0.1:\(port)\(path)", headers, probe.timeout)
        case .tcp(let port): await Self.tcp(port, probe.timeout)
        case .grpc(let port, let service): await Self.grpc(port, service, probe.timeout)
        }
    }

    private func http(_ url: String, _ headers: [AppProbe.Header], _ timeout: Duration) async -> String? {
        var request = HTTPClientRequest(url: url)
        for header in headers { request.headers.add(name: header.name, value: header.value) }
        if !request.headers.contains(name: "user-agent") {
            request.headers.add(name: "user-agent", value: "kube-probe/")
        }
        do {
            let response = try await self.client.execute(request, timeout: TimeAmount(timeout))
            let status = Int(response.status.code)
            return (200..<400).contains(status) ? nil : "the application answered with \(status)"
        } catch {
            return "the application did not answer: \(error)"
        }
    }

    private static func tcp(_ port: Int, _ timeout: Duration) async -> String? {
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(TimeAmount(timeout)).connect(host: "127.0.0.1", port: port).get()
            try? await channel.close()
            return nil
        } catch {
            return "the application takes no connection: \(error)"
        }
    }

    // MARK: gRPC

    private static let health = MethodDescriptor(
        service: ServiceDescriptor(fullyQualifiedService: "grpc.health.v1.Health"), method: "Check")
    /// `grpc.health.v1.HealthCheckResponse` with the status SERVING.
    private static let serving: [UInt8] = [0x08, 0x01]
    /// Longer names than these no service has.
    private static let nameBytesMax = 127

    private static func grpc(_ port: Int, _ service: String, _ timeout: Duration) async -> String? {
        let name = Array(service.utf8.prefix(Self.nameBytesMax))
        // `grpc.health.v1.HealthCheckRequest`: the service's name is field 1.
        let question = name.isEmpty ? [] : [0x0a, UInt8(name.count)] + name
        do {
            let transport = try HTTP2ClientTransport.Posix(
                target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: .plaintext)
            return try await withGRPCClient(transport: transport) { client in
                var options = CallOptions.defaults
                options.timeout = timeout
                options.waitForReady = false
                let answer: [UInt8] = try await client.unary(
                    request: ClientRequest(message: question), descriptor: Self.health, serializer: PlainBytes(),
                    deserializer: PlainBytes(), options: options
                ) { try $0.message }
                return answer == Self.serving ? nil : "the application is not serving"
            }
        } catch {
            return "the application did not answer: \(error)"
        }
    }
}

private struct PlainBytes: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { Array($0) }
    }
}

/// Where the application's metrics are: injection took the annotations `prometheus.io/*` of the pod for us.
package struct AppScrape: Hashable, Sendable {
    package var port: Int
    package var path: String

    /// - Parameter text: `{"scrape":"true","path":"/metrics","port":"8080"}`; nil when it is not to be scraped.
    package init?(_ text: String) throws(InvalidSetting) {
        guard let json = try? JSONValue(parsing: text), json.object != nil else {
            throw InvalidSetting("ISTIO_PROMETHEUS_ANNOTATIONS", text, wanted: "a JSON object")
        }
        func word(_ name: String) -> String {
            json[name]?.string ?? json[name]?.int.map(String.init) ?? json[name]?.bool.map(String.init) ?? ""
        }
        if word("scrape") == "false" { return nil }
        let (port, path) = (word("port").isEmpty ? "80" : word("port"), word("path"))
        guard let number = Int(port), (1...65535).contains(number) else {
            throw InvalidSetting("ISTIO_PROMETHEUS_ANNOTATIONS", text, wanted: "a number from 1 to 65535 as port")
        }
        self.port = number
        self.path = path.isEmpty ? "/metrics" : path.hasPrefix("/") ? path : "/" + path
    }

    private static let timeout = TimeAmount.seconds(5)
    private static let bodyBytesMax = 64 << 20

    /// Nil: there is no answer.
    func read() async -> String? {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(self.port)\(self.path)")
        // Texts of this form can be put together; those of OpenMetrics have an end.
        request.headers.add(name: "accept", value: "text/plain;version=0.0.4")
        guard let response = try? await HTTPClient.shared.execute(request, timeout: Self.timeout),
            response.status == .ok, let body = try? await response.body.collect(upTo: Self.bodyBytesMax)
        else { return nil }
        let text = String(buffer: body)
        return text.hasSuffix("\n") || text.isEmpty ? text : text + "\n"
    }
}
