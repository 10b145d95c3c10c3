import CLabNode
import Foundation
package import KubeAPI

/// A probe or a hook's handler as the specification says it.
package struct ProbeSpec: Hashable, Sendable {
    package enum Action: Hashable, Sendable {
        case exec([String])
        case http(host: String?, port: Int, path: String, isHTTPS: Bool, headers: [[String]])
        case tcp(host: String?, port: Int)
        case grpc(port: Int, service: String)
        case sleep(seconds: Int)
    }
    package var action: Action
    package var initialDelay: Duration
    package var period: Duration
    package var timeout: Duration
    package var successThreshold: Int
    package var failureThreshold: Int

    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// - Parameter container: whose named ports the handler may mean.
    package init(_ json: JSONValue, container: ContainerSpec) throws(Invalid) {
        func seconds(_ key: String, _ standard: Int64) -> Int64 { max(0, json[key]?.int ?? standard) }
        self.initialDelay = .seconds(seconds("initialDelaySeconds", 0))
        self.period = .seconds(max(1, seconds("periodSeconds", 10)))
        self.timeout = .seconds(max(1, seconds("timeoutSeconds", 1)))
        self.successThreshold = Int(max(1, seconds("successThreshold", 1)))
        self.failureThreshold = Int(max(1, seconds("failureThreshold", 3)))
        if let exec = json["exec"] {
            self.action = .exec(exec["command"]?.array?.compactMap(\.string) ?? [])
        } else if let get = json["httpGet"] {
            let headers = (get["httpHeaders"]?.array ?? []).map {
                [$0["name"]?.string ?? "", $0["value"]?.string ?? ""]
            }
            self.action = .http(
                host: get["host"]?.string.flatMap { $0.isEmpty ? nil : $0 },
                port: try Self.port(get["port"], container), path: get["path"]?.string ?? "/",
                isHTTPS: get["scheme"]?.string == "HTTPS", headers: headers)
        } else if let socket = json["tcpSocket"] {
            self.action = .tcp(
                host: socket["host"]?.string.flatMap { $0.isEmpty ? nil : $0 },
                port: try Self.port(socket["port"], container))
        } else if let grpc = json["grpc"] {
            self.action = .grpc(port: try Self.port(grpc["port"], container), service: grpc["service"]?.string ?? "")
        } else if let sleep = json["sleep"] {
            self.action = .sleep(seconds: Int(sleep["seconds"]?.int ?? 0))
        } else {
            throw Invalid(description: "the probe has no handler")
        }
    }

    private static func port(_ json: JSONValue?, _ container: ContainerSpec) throws(Invalid) -> Int {
        var number = json?.int
        if let name = json?.string {
            number =
                Int64(name)
                ?? (container.json["ports"]?.array ?? []).first { $0["name"]?.string == name }?["containerPort"]?.int
        }
        guard let number, (1...65535).contains(number) else {
            throw Invalid(description: "the probe's port \(json?.description ?? "") is none of the container's")
        }
        return Int(number)
    }
}

/// Counts a probe's results until its thresholds say that something changed.
package struct ProbeTally: Hashable, Sendable {
    package enum Verdict: Hashable, Sendable { case succeeded, failed }
    package let successThreshold: Int
    package let failureThreshold: Int
    private var last: Bool?
    private var run = 0

    package init(_ spec: ProbeSpec) {
        self.successThreshold = spec.successThreshold
        self.failureThreshold = spec.failureThreshold
    }

    /// Nil while the thresholds are not reached.
    package mutating func record(_ succeeded: Bool) -> Verdict? {
        self.run = succeeded == self.last ? self.run + 1 : 1
        self.last = succeeded
        if succeeded { return self.run >= self.successThreshold ? .succeeded : nil }
        return self.run >= self.failureThreshold ? .failed : nil
    }

    /// After a restart decision: a new container starts from nothing.
    package mutating func reset() {
        self.last = nil
        self.run = 0
    }
}
