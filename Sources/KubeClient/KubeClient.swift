import AsyncHTTPClient
import Foundation
public import KubeAPI
import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import NIOSSL

/// Kubernetes over HTTPS. One client keeps its connections open and may be used by any number of tasks.
public final class KubeClient: KubeCluster {
    public let configuration: KubeConfiguration
    private let http: HTTPClient
    let credential: CredentialReader
    let userAgent: String

    /// Every watch holds one connection; a control plane has about thirty.
    static let connectionsMax = 512
    /// An answer larger than this is no list we could hold: 100 000 pods are about 500 MB on the wire.
    static let bodyBytesMax = 1 << 30
    /// The longest line of a watch: one object, at most a few MiB in any API server.
    static let watchLineBytesMax = 32 << 20
    static let requestTimeout = TimeAmount.seconds(60)
    /// How often a request is repeated when the server asks for it (429 with Retry-After).
    static let throttledRetriesMax = 10

    /// - Throws: when the trust roots or the client certificate cannot be read.
    public init(_ configuration: KubeConfiguration, userAgent: String = "martlet") throws {
        self.configuration = configuration
        self.userAgent = userAgent
        self.credential = CredentialReader(configuration.credential)
        var settings = HTTPClient.Configuration(tlsConfiguration: try Self.tls(configuration))
        settings.timeout.connect = .seconds(5)
        settings.redirectConfiguration = .disallow
        settings.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = Self.connectionsMax
        settings.connectionPool.retryConnectionEstablishment = false
        settings.decompression = .disabled
        settings.httpVersion = .http1Only
        self.http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: settings)
    }

    static func tls(_ configuration: KubeConfiguration) throws -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        switch configuration.trust {
        case .system: break
        case .authorities(let pem):
            tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(pem.utf8)))
        }
        if case .clientCertificate(let chain, let key) = configuration.credential {
            tls.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(chain.utf8)).map { .certificate($0) }
            tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem))
        }
        return tls
    }

    /// Ends all connections. Call once, at the end; requests after it fail.
    public func shutdown() async throws { try await self.http.shutdown() }

    // MARK: requests

    /// Any request, for paths that are no plain objects (`/version`, discovery, logs).
    public func request(
        _ method: String, _ path: String, query: [(String, String)] = [], body: [UInt8]? = nil,
        contentType: String = "application/json", accept: String = "application/json"
    ) async throws -> [UInt8] {
        var attempt = 0
        while true {
            let response = try await self.send(
                method, path, query, body, contentType, accept, timeout: Self.requestTimeout)
            let bytes = try await self.collect(response)
            let status = Int(response.status.code)
            if (200..<300).contains(status) { return bytes }
            if status == 429, attempt < Self.throttledRetriesMax,
                let seconds = response.headers.first(name: "retry-after").flatMap({ Int($0) })
            {
                attempt += 1
                try await Task.sleep(for: .seconds(min(seconds, 60)))
                continue
            }
            throw StatusError(code: status, body: (try? JSONValue(parsing: bytes)) ?? .null)
        }
    }

    private func json(
        _ method: String, _ path: String, query: [(String, String)] = [], body: JSONValue? = nil,
        contentType: String = "application/json"
    ) async throws -> JSONValue {
        let bytes = try await self.request(
            method, path, query: query, body: body?.encoded, contentType: contentType)
        do {
            return try JSONValue(parsing: bytes)
        } catch {
            throw KubeConnectionError("\(method) \(path): the server's answer is unreadable: \(error)")
        }
    }

    private func send(
        _ method: String, _ path: String, _ query: [(String, String)], _ body: [UInt8]?, _ contentType: String,
        _ accept: String, timeout: TimeAmount
    ) async throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: self.configuration.server + path + Self.encode(query))
        request.method = HTTPMethod(rawValue: method)
        request.headers.add(name: "accept", value: accept)
        request.headers.add(name: "user-agent", value: self.userAgent)
        if let token = try self.credential.token() {
            request.headers.add(name: "authorization", value: "Bearer \(token)")
        }
        if let body {
            request.headers.add(name: "content-type", value: contentType)
            request.body = .bytes(body)
        }
        do {
            return try await self.http.execute(request, timeout: timeout)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw self.unreachable(method, path, error)
        }
    }

    private func collect(_ response: HTTPClientResponse) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        do {
            for try await part in response.body {
                guard bytes.count + part.readableBytes <= Self.bodyBytesMax else {
                    throw KubeConnectionError("the server's answer is larger than \(Self.bodyBytesMax) bytes")
                }
                bytes += part.readableBytesView
            }
        } catch let error as KubeConnectionError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw KubeConnectionError("\(self.configuration.server): the answer broke off: \(error)")
        }
        return bytes
    }

    func unreachable(_ method: String, _ path: String, _ error: any Error) -> KubeConnectionError {
        KubeConnectionError(
            "cannot reach the Kubernetes API at \(self.configuration.server) (\(method) \(path)): \(error); "
                + "is the cluster running, and is this the right kubeconfig?")
    }

    /// RFC 3986: everything but the unreserved characters is escaped.
    static func encode(_ query: [(String, String)]) -> String {
        if query.isEmpty { return "" }
        func escape(_ text: String) -> String {
            var escaped = ""
            for byte in text.utf8 {
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                    UInt8(ascii: "_"), UInt8(ascii: "~"):
                    escaped.unicodeScalars.append(Unicode.Scalar(byte))
                default: escaped += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
                }
            }
            return escaped
        }
        return "?" + query.map { "\(escape($0))=\(escape($1))" }.joined(separator: "&")
    }

    private static func query(_ options: ListOptions) -> [(String, String)] {
        var query: [(String, String)] = []
        if let labels = options.labelSelector { query.append(("labelSelector", labels)) }
        if let fields = options.fieldSelector { query.append(("fieldSelector", fields)) }
        return query
    }

    // MARK: KubeCluster

    public func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject {
        KubeObject(try await self.json("GET", type.path(namespace: namespace, name: name)))
    }

    public func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        var items: [KubeObject] = []
        var version = ""
        var next: String?
        repeat {
            var query = Self.query(options) + [("limit", "500")]
            if let next { query.append(("continue", next)) }
            let page = try await self.json("GET", type.path(namespace: namespace), query: query)
            // Items of built-in types come without their type; give it back, so that an object stands alone.
            for var item in page["items"]?.array ?? [] {
                if item["kind"] == nil {
                    item["kind"] = .string(type.kind)
                    item["apiVersion"] = .string(type.apiVersion)
                }
                items.append(KubeObject(item))
            }
            version = page.at("metadata", "resourceVersion")?.string ?? ""
            next = page.at("metadata", "continue")?.string.flatMap { $0.isEmpty ? nil : $0 }
        } while next != nil
        return KubeList(items: items, resourceVersion: version)
    }

    public func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        let seconds = Int.random(in: 300...600)
        let query =
            Self.query(options) + [
                ("watch", "true"), ("resourceVersion", resourceVersion), ("allowWatchBookmarks", "true"),
                ("timeoutSeconds", String(seconds)),
            ]
        let response = try await self.send(
            "GET", type.path(namespace: namespace), query, nil, "", "application/json",
            timeout: .seconds(Int64(seconds) + 30))
        guard response.status == .ok else {
            let body = try await self.collect(response)
            throw StatusError(code: Int(response.status.code), body: (try? JSONValue(parsing: body)) ?? .null)
        }
        return WatchStream.events(of: response.body, lineBytesMax: Self.watchLineBytesMax)
    }

    public func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        KubeObject(
            try await self.json(
                "POST", type.path(namespace: namespace, name: name, subresource: subresource), body: body))
    }

    public func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        KubeObject(
            try await self.json(
                "PUT", type.path(namespace: namespace, name: name, subresource: subresource), body: body))
    }

    public func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject {
        let path = type.path(namespace: namespace, name: name, subresource: subresource)
        let (body, contentType, query): (JSONValue, String, [(String, String)]) =
            switch patch {
            case .merge(let body): (body, "application/merge-patch+json", [])
            case .strategic(let body): (body, "application/strategic-merge-patch+json", [])
            case .json(let body): (body, "application/json-patch+json", [])
            case .apply(let body, let manager, let force):
                (body, "application/apply-patch+yaml", [("fieldManager", manager), ("force", String(force))])
            }
        return KubeObject(
            try await self.json("PATCH", path, query: query, body: body, contentType: contentType))
    }

    public func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject {
        var body: JSONValue = ["kind": "DeleteOptions", "apiVersion": "v1"]
        if let seconds = options.gracePeriodSeconds { body["gracePeriodSeconds"] = .int(seconds) }
        if let propagation = options.propagation { body["propagationPolicy"] = .string(propagation.rawValue) }
        if let uid = options.uid { body["preconditions"] = ["uid": .string(uid)] }
        return KubeObject(
            try await self.json("DELETE", type.path(namespace: namespace, name: name), body: body))
    }
}
