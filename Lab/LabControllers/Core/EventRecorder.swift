package import KubeAPI
package import KubeClient
package import Logging

/// Writes Events. A repeated event raises the count of the first one.
///
/// Recording never waits; when more than ``queueMax`` events are waiting to be written, the newest are lost.
package final class EventRecorder: Sendable {
    package static let queueMax = 1_000
    /// How many different events are remembered in order to recognise repeats.
    private static let knownMax = 4_000

    private let cluster: any KubeCluster
    private let log: Logger
    private let notes: AsyncStream<EventNote>
    private let continuation: AsyncStream<EventNote>.Continuation

    package init(_ cluster: any KubeCluster, log: Logger) {
        self.cluster = cluster
        self.log = log
        (self.notes, self.continuation) = AsyncStream.makeStream(
            bufferingPolicy: .bufferingOldest(Self.queueMax))
    }

    package func record(_ note: EventNote) { self.continuation.yield(note) }

    private struct Identity: Hashable {
        let uid, reason, message, component: String
    }

    /// Writes what is recorded, until cancelled.
    package func run() async {
        var known: [Identity: KubeObject] = [:]
        for await note in self.notes {
            let identity = Identity(
                uid: note.object.uid, reason: note.reason, message: note.message, component: note.component)
            do {
                if let earlier = known[identity], let repeated = try await self.repeated(earlier) {
                    known[identity] = repeated
                } else {
                    if known.count >= Self.knownMax { known = [:] }
                    known[identity] = try await self.cluster.create(.events, Self.event(note, at: .now))
                }
            } catch let error as StatusError where error.code == 403 {
                // The namespace is going away, and its events with it.
            } catch {
                self.log.warning("cannot write the event \(note.reason) of \(note.object.key): \(error)")
            }
        }
    }

    /// Nil when the event is gone (they live for an hour).
    private func repeated(_ event: KubeObject) async throws -> KubeObject? {
        do {
            return try await self.cluster.patch(
                .events, namespace: event.namespace, name: event.name, subresource: nil,
                .merge([
                    "count": .int((event.json["count"]?.int ?? 1) + 1), "lastTimestamp": .string(KubeTime.now.text),
                ]))
        } catch let error as StatusError where error.isNotFound {
            return nil
        }
    }

    package static func event(_ note: EventNote, at now: KubeTime) -> KubeObject {
        let object = note.object
        let namespace = object.namespace.isEmpty ? "default" : object.namespace
        var involved: JSONValue = [
            "kind": .string(object.kind), "name": .string(object.name), "uid": .string(object.uid),
            "apiVersion": .string(object.apiVersion), "resourceVersion": .string(object.resourceVersion),
        ]
        if !object.namespace.isEmpty { involved["namespace"] = .string(object.namespace) }
        let suffix = String(UInt64.random(in: .min ... .max), radix: 16)
        return KubeObject(
            .events, namespace: namespace,
            name: "\(object.name).\(String(repeating: "0", count: 16 - suffix.count))\(suffix)",
            [
                "involvedObject": involved, "reason": .string(note.reason), "message": .string(note.message),
                "type": note.isWarning ? "Warning" : "Normal", "source": ["component": .string(note.component)],
                "firstTimestamp": .string(now.text), "lastTimestamp": .string(now.text), "count": 1,
                "eventTime": .null, "reportingComponent": .string(note.component), "reportingInstance": "",
            ])
    }
}
