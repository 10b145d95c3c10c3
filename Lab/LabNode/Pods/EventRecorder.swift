import Foundation
import KubeAPI
import KubeClient
import Logging

/// Tells the API what happened to a pod, as core/v1 events. A repeated event is counted on the first one.
///
/// Losing an event is no error: a slow API server must not stop pods.
actor EventRecorder {
    static let rememberedMax = 512
    static let waitingMax = 256

    enum Kind: String, Sendable { case normal = "Normal", warning = "Warning" }
    private struct Event: Sendable {
        var object: KubeObject
        var kind: Kind
        var reason: String
        var message: String
        var fieldPath: String?
        var at: Date
    }

    private let cluster: any KubeCluster
    private let nodeName: String
    private let logger: Logger
    private var known: [String: (name: String, count: Int64)] = [:]
    private let waiting: AsyncStream<Event>
    private let waitingEnd: AsyncStream<Event>.Continuation

    init(_ cluster: any KubeCluster, nodeName: String, logger: Logger) {
        self.cluster = cluster
        self.nodeName = nodeName
        self.logger = logger
        (self.waiting, self.waitingEnd) = AsyncStream.makeStream(
            of: Event.self, bufferingPolicy: .bufferingOldest(Self.waitingMax))
    }

    nonisolated func record(
        _ object: KubeObject, _ kind: Kind, _ reason: String, _ message: String, container: String? = nil,
        isInit: Bool = false
    ) {
        let path = container.map { "spec.\(isInit ? "initContainers" : "containers"){\($0)}" }
        self.waitingEnd.yield(
            Event(object: object, kind: kind, reason: reason, message: message, fieldPath: path, at: Date()))
    }

    /// Sends what is recorded until cancelled.
    func run() async {
        for await event in self.waiting { await self.send(event) }
    }

    private func send(_ event: Event) async {
        let key = "\(event.object.uid)|\(event.fieldPath ?? "")|\(event.reason)|\(event.message)"
        let namespace = event.object.namespace.isEmpty ? "default" : event.object.namespace
        let now = JSONValue.string(Timestamp.seconds(event.at))
        do {
            if let known = self.known[key] {
                self.known[key]?.count += 1
                do {
                    _ = try await self.cluster.patch(
                        .events, namespace: namespace, name: known.name, subresource: nil,
                        .merge(["count": .int(known.count + 1), "lastTimestamp": now]))
                    return
                } catch let error as StatusError where error.isNotFound {
                    self.known[key] = nil
                }
            }
            let name = "\(event.object.name).\(String(UInt64.random(in: 1 << 60...UInt64.max), radix: 16))"
            var reference = event.object.reference
            if event.object.kind.isEmpty { reference["kind"] = "Pod" }
            reference["fieldPath"] = event.fieldPath.map { .string($0) }
            let made = KubeObject(
                .events, namespace: namespace, name: name,
                [
                    "involvedObject": reference, "reason": .string(event.reason),
                    "message": .string(String(event.message.prefix(1024))), "type": .string(event.kind.rawValue),
                    "source": ["component": "kubelet", "host": .string(self.nodeName)], "firstTimestamp": now,
                    "lastTimestamp": now, "count": 1, "eventTime": .null, "reportingComponent": "kubelet",
                    "reportingInstance": .string(self.nodeName),
                ])
            if self.known.count >= Self.rememberedMax { self.known.removeAll() }
            self.known[key] = (name, 1)
            _ = try await self.cluster.create(.events, made)
        } catch {
            self.logger.debug("event not recorded", metadata: ["reason": "\(event.reason)", "error": "\(error)"])
        }
    }
}
