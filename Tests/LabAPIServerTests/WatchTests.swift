import KubeAPI
import KubeClient
import LabAPIServer
import Testing

@Suite("Watches")
struct WatchTests {
    private func next(_ iterator: inout AsyncThrowingStream<WatchEvent, any Error>.AsyncIterator) async throws -> String
    {
        switch try await iterator.next() {
        case .added(let object): "added \(object.name)"
        case .modified(let object): "modified \(object.name)"
        case .deleted(let object): "deleted \(object.name)"
        case .bookmark: "bookmark"
        case nil: "end"
        }
    }

    @Test("continue from a list without a gap, and follow the selector")
    func transitions() async throws {
        let cluster = try await makeCluster()
        let list = try await cluster.list(.configMaps, namespace: "default")
        func labelled(_ value: String) -> KubeObject {
            KubeObject(.configMaps, namespace: "default", name: "a", labels: ["k": value])
        }
        let first = try await cluster.create(.configMaps, labelled("yes"))
        let stream = try await cluster.watch(
            .configMaps, namespace: "default", from: list.resourceVersion, ListOptions(labelSelector: "k=yes"))
        var iterator = stream.makeAsyncIterator()
        #expect(try await self.next(&iterator) == "added a")
        _ = try await cluster.patch(
            .configMaps, namespace: "default", name: "a", subresource: nil, .merge(["data": ["x": "1"]]))
        #expect(try await self.next(&iterator) == "modified a")
        try await cluster.replace(.configMaps, labelled("no"))
        #expect(try await self.next(&iterator) == "deleted a")
        try await cluster.replace(.configMaps, labelled("yes"))
        #expect(try await self.next(&iterator) == "added a")
        try await cluster.delete(.configMaps, namespace: "default", name: "a")
        guard case .deleted(let last)? = try await iterator.next() else {
            Issue.record("no deletion arrived")
            return
        }
        #expect(last.uid == first.uid && UInt64(last.resourceVersion)! > UInt64(first.resourceVersion)!)
    }

    @Test("from a version of long ago are expired, from one of the future refused")
    func expired() async throws {
        let cluster = try await makeCluster()
        let old = try await refusal {
            _ = try await cluster.watch(.configMaps, namespace: nil, from: "00", ListOptions())
        }
        #expect(old.isExpired)
        let future = try await refusal {
            _ = try await cluster.watch(.configMaps, namespace: nil, from: "99999999", ListOptions())
        }
        #expect(future.code == 504)
    }
}

@Suite("Service account tokens")
struct TokenTests {
    private let request: JSONValue = ["spec": ["audiences": ["istio-ca"], "expirationSeconds": 3600]]

    private func issue(_ cluster: LabClusterClient, _ body: JSONValue) async throws -> KubeObject {
        try await cluster.create(.serviceAccounts, namespace: "default", name: "default", subresource: "token", body)
    }

    private func review(_ cluster: LabClusterClient, _ token: String, _ audience: String) async throws -> JSONValue {
        let body: JSONValue = ["spec": ["token": .string(token), "audiences": [.string(audience)]]]
        return try await cluster.create(.tokenReviews, namespace: nil, name: nil, subresource: nil, body).status
    }

    @Test("are reviewed for their audience")
    func reviewed() async throws {
        let cluster = try await makeCluster()
        let token = try #require(try await self.issue(cluster, self.request).status["token"]?.string)
        let good = try await self.review(cluster, token, "istio-ca")
        #expect(good["authenticated"] == true && good["audiences"] == ["istio-ca"])
        #expect(good.at("user", "username") == "system:serviceaccount:default:default")
        #expect(try await self.review(cluster, token, "other")["authenticated"] == false)
        #expect(try await self.review(cluster, token + "x", "istio-ca")["authenticated"] == false)
    }

    @Test("bound to a pod name it and its node, and end with it")
    func bound() async throws {
        let cluster = try await makeCluster()
        let node = try await cluster.create(.nodes, KubeObject(.nodes, name: "n"))
        let pod = try await cluster.create(
            .pods,
            KubeObject(
                .pods, namespace: "default", name: "p",
                ["spec": ["nodeName": "n", "containers": [["name": "c", "image": "i"]]]]))
        var body = self.request
        body.set(
            ["spec", "boundObjectRef"], to: ["kind": "Pod", "apiVersion": "v1", "name": "p", "uid": .string(pod.uid)])
        let token = try #require(try await self.issue(cluster, body).status["token"]?.string)
        let extra = try await self.review(cluster, token, "istio-ca").at("user", "extra")
        #expect(extra?["authentication.kubernetes.io/pod-uid"] == [.string(pod.uid)])
        #expect(extra?["authentication.kubernetes.io/node-uid"] == [.string(node.uid)])
        try await cluster.delete(.pods, namespace: "default", name: "p", DeleteOptions(gracePeriodSeconds: 0))
        #expect(try await self.review(cluster, token, "istio-ca")["authenticated"] == false)
    }

    @Test("live ten minutes at least")
    func short() async throws {
        let cluster = try await makeCluster()
        let error = try await refusal { _ = try await self.issue(cluster, ["spec": ["expirationSeconds": 60]]) }
        #expect(error.code == 422 && error.message.contains("may not specify a duration less than 10 minutes"))
    }
}
