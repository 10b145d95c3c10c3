import Foundation
import KubeAPI
import KubeClient

/// The ConfigMaps, Secrets and tokens that pods of this node use, from the API. Reads of the same object within
/// ``freshness`` are answered from memory, so that a node full of equal pods asks once.
actor PodObjects {
    static let freshness = Duration.seconds(5)
    static let remembered = 1024

    private let cluster: any KubeCluster
    private var known: [String: (object: KubeObject?, at: ContinuousClock.Instant)] = [:]

    init(_ cluster: any KubeCluster) { self.cluster = cluster }

    /// By `kind/name`; objects that do not exist are left out.
    func objects(
        _ references: [(kind: String, name: String)], namespace: String
    ) async throws -> [String: KubeObject] {
        var found: [String: KubeObject] = [:]
        for (kind, name) in references where found["\(kind)/\(name)"] == nil {
            found["\(kind)/\(name)"] = try await self.object(kind, namespace, name)
        }
        return found
    }

    private func object(_ kind: String, _ namespace: String, _ name: String) async throws -> KubeObject? {
        let key = "\(kind)/\(namespace)/\(name)"
        // A missing object is asked for each time: a pod waits for it.
        if let known = self.known[key], known.object != nil, .now - known.at < Self.freshness { return known.object }
        var object = try await self.cluster.find(
            kind == "Secret" ? .secrets : .configMaps, namespace: namespace, name: name)
        // Items of lists and some servers leave the kind out.
        object?.json["kind"] = .string(kind)
        if self.known.count >= Self.remembered { self.known.removeAll() }
        self.known[key] = (object, .now)
        return object
    }

    /// - Returns: the token and how many seconds it lives from now.
    func token(for pod: KubeObject, _ wanted: JSONValue) async throws -> (String, Double) {
        let seconds = wanted["expirationSeconds"]?.int ?? 3600
        var spec: JSONValue = [
            "expirationSeconds": .int(seconds),
            "boundObjectRef": [
                "kind": "Pod", "apiVersion": "v1", "name": .string(pod.name), "uid": .string(pod.uid),
            ],
        ]
        let audience = wanted["audience"]?.string ?? ""
        if !audience.isEmpty { spec["audiences"] = [.string(audience)] }
        let answer = try await self.cluster.create(
            .serviceAccounts, namespace: pod.namespace, name: pod.serviceAccountName, subresource: "token",
            [
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec,
            ])
        guard let token = answer.status["token"]?.string, !token.isEmpty else {
            throw KubeConnectionError("the API server answered a TokenRequest without a token")
        }
        let expiry = answer.status["expirationTimestamp"]?.string.flatMap(Timestamp.date)
        return (token, expiry?.timeIntervalSinceNow ?? Double(seconds))
    }
}
