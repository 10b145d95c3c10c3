import Foundation
package import KubeAPI
package import KubeClient
package import Logging

/// Writes the condition `ZtunnelAccepted` of AuthorizationPolicies: what the node proxy will really do with them.
/// Knows the wanted condition and the stored one, and writes only when they differ. Writing happens in ``run()``,
/// which only the leader runs.
package actor PolicyStatusWriter {
    package static let conditionType = "ZtunnelAccepted"
    private static let fieldManager = "istio-ambient-ztunnel-policy"
    private static let attemptsMax = 5

    private let cluster: any KubeCluster
    private let logger: Logger
    private var wanted: [String: (generation: Int64, acceptance: AuthorizationConverter.Acceptance?)] = [:]
    private var stored: [String: JSONValue] = [:]
    /// Keys to look at again; at most one entry per policy.
    private var dirty: Set<String> = []
    private var wake: AsyncStream<Void>.Continuation?

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    /// What the object in the cluster says now.
    package func observed(_ key: String, _ object: KubeObject?) {
        let conditions = object?.status["conditions"]?.array ?? []
        self.stored[key] = conditions.first { $0["type"]?.string == Self.conditionType }
        if object == nil { self.wanted[key] = nil }
        self.mark(key)
    }

    package func want(_ key: String, _ generation: Int64, _ acceptance: AuthorizationConverter.Acceptance?) {
        self.wanted[key] = (generation, acceptance)
        self.mark(key)
    }

    private func mark(_ key: String) {
        self.dirty.insert(key)
        self.wake?.yield()
    }

    package func run() async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.wake = wake
        defer { self.wake = nil }
        // A new leader looks at everything once.
        self.dirty.formUnion(self.wanted.keys)
        wake.yield()
        for await _ in signals {
            while !Task.isCancelled, let key = self.dirty.popFirst() { await self.write(key) }
        }
    }

    private func write(_ key: String) async {
        for attempt in 1...Self.attemptsMax {
            guard let wanted = self.wanted[key], !self.isWritten(key) else { return }
            let parts = key.split(separator: "/", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { return }
            let conditions: [JSONValue] = wanted.acceptance.map { [Self.condition($0, wanted.generation)] } ?? []
            let patch: JSONValue = [
                "apiVersion": .string(ResourceType.authorizationPolicies.apiVersion),
                "kind": .string(ResourceType.authorizationPolicies.kind),
                "metadata": ["namespace": .string(parts[0]), "name": .string(parts[1])],
                "status": ["conditions": .array(conditions)],
            ]
            do {
                _ = try await self.cluster.patch(
                    .authorizationPolicies, namespace: parts[0], name: parts[1], subresource: "status",
                    .apply(patch, fieldManager: Self.fieldManager, force: true))
                self.stored[key] = conditions.first
                return
            } catch let error as StatusError where error.isNotFound {
                return
            } catch {
                if attempt == Self.attemptsMax || Task.isCancelled {
                    self.logger.warning(
                        "cannot write the status", metadata: ["policy": "\(key)", "why": "\(error)"])
                    return
                }
                try? await Task.sleep(for: .milliseconds(200 * attempt))
            }
        }
    }

    private func isWritten(_ key: String) -> Bool {
        guard let wanted = self.wanted[key] else { return true }
        guard let acceptance = wanted.acceptance else { return self.stored[key] == nil }
        guard var stored = self.stored[key] else { return false }
        var condition = Self.condition(acceptance, wanted.generation)
        stored["lastTransitionTime"] = nil
        condition["lastTransitionTime"] = nil
        // The API may give a 64-bit number back as text.
        if let text = stored["observedGeneration"]?.string, let number = Int64(text) {
            stored["observedGeneration"] = .int(number)
        }
        return stored == condition
    }

    static func condition(_ acceptance: AuthorizationConverter.Acceptance, _ generation: Int64) -> JSONValue {
        [
            "type": .string(Self.conditionType), "status": acceptance.isAccepted ? "True" : "False",
            "reason": .string(acceptance.reason), "message": .string(acceptance.message),
            "observedGeneration": .int(generation),
            "lastTransitionTime": .string(Date().formatted(.iso8601)),
        ]
    }
}
