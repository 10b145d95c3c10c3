import KubeAPI
import KubeClient
import LabAPIServer
import Testing

@Suite("Patches")
struct PatchTests {
    private func patched(_ cluster: LabClusterClient, _ patch: KubePatch) async throws -> KubeObject {
        try await cluster.patch(.deployments, namespace: "default", name: "d", subresource: nil, patch)
    }

    @Test("of the strategic kind merge containers by name and obey directives")
    func strategic() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.deployments, deployment("d"))
        func containers(_ object: KubeObject) -> [String] {
            (object.spec.at("template", "spec", "containers")?.array ?? []).map {
                "\($0["name"]?.string ?? "")=\($0["image"]?.string ?? "")"
            }
        }
        func patch(_ spec: JSONValue) -> KubePatch { .strategic(["spec": ["template": ["spec": spec]]]) }
        let added = try await self.patched(
            cluster,
            patch([
                "containers": [["name": "x", "image": "i"], ["name": "c", "image": "img:2"]],
                "$setElementOrder/containers": [["name": "x"], ["name": "c"]],
            ]))
        #expect(containers(added) == ["x=i", "c=img:2"])
        let removed = try await self.patched(cluster, patch(["containers": [["$patch": "delete", "name": "x"]]]))
        #expect(containers(removed) == ["c=img:2"])
        let replaced = try await self.patched(
            cluster,
            .strategic([
                "spec": ["template": ["$patch": "replace"].merging(deployment("d", image: "img:9").spec["template"]!)]
            ]))
        #expect(containers(replaced) == ["c=img:9"])
        let retained = try await self.patched(
            cluster, .strategic(["spec": ["strategy": ["$retainKeys": ["type"], "type": "Recreate"]]]))
        #expect(retained.spec["strategy"] == ["type": "Recreate"])
    }

    @Test("of the JSON kind that do not fit are 422, malformed ones 400")
    func json() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.deployments, deployment("d"))
        let misfit = try await refusal {
            _ = try await self.patched(cluster, .json([["op": "replace", "path": "/spec/nope", "value": 1]]))
        }
        #expect(
            misfit.code == 422 && misfit.message == "the server rejected our request due to an error in our request")
        let malformed = try await refusal {
            _ = try await self.patched(cluster, .json([["op": "jump", "path": "/x"]]))
        }
        #expect(malformed.code == 400)
        let good = try await self.patched(
            cluster, .json([["op": "add", "path": "/metadata/annotations", "value": ["a/b": "1"]]]))
        let gone = try await self.patched(cluster, .json([["op": "remove", "path": "/metadata/annotations/a~1b"]]))
        #expect(good.annotations == ["a/b": "1"] && gone.annotations.isEmpty)
    }

    @Test("with a stale version conflict, without one never do")
    func versions() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.deployments, deployment("d"))
        let error = try await refusal {
            _ = try await self.patched(
                cluster, .merge(["metadata": ["resourceVersion": "1", "labels": ["a": "b"]]]))
        }
        #expect(error.isConflict)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<20 {
                group.addTask {
                    _ = try await self.patched(cluster, .merge(["metadata": ["labels": ["l\(index)": "1"]]]))
                }
            }
            try await group.waitForAll()
        }
        #expect(try await cluster.get(.deployments, namespace: "default", name: "d").labels.count == 20)
    }
}

extension JSONValue {
    fileprivate func merging(_ other: JSONValue) -> JSONValue {
        .object((self.object ?? [:]).merging(other.object ?? [:]) { $1 })
    }
}

@Suite("Server-side apply")
struct ApplyTests {
    private func apply(
        _ cluster: LabClusterClient, _ data: [String: String], by manager: String, force: Bool = false
    ) async throws -> KubeObject {
        try await cluster.patch(
            .configMaps, namespace: "default", name: "a", subresource: nil,
            .apply(configMap("a", data).json, fieldManager: manager, force: force))
    }

    @Test("creates, repeats without a change, and removes what its manager gives up")
    func lifecycle() async throws {
        let cluster = try await makeCluster()
        let made = try await self.apply(cluster, ["a": "1", "b": "2"], by: "m1")
        let again = try await self.apply(cluster, ["a": "1", "b": "2"], by: "m1")
        #expect(again == made)
        let fewer = try await self.apply(cluster, ["a": "1"], by: "m1")
        #expect(fewer.json["data"] == ["a": "1"])
    }

    @Test("conflicts on another manager's field, shares an equal value, and takes over by force")
    func conflicts() async throws {
        let cluster = try await makeCluster()
        _ = try await self.apply(cluster, ["a": "1"], by: "m1")
        _ = try await self.apply(cluster, ["a": "1"], by: "m2")
        let error = try await refusal { _ = try await self.apply(cluster, ["a": "9"], by: "m3") }
        #expect(error.code == 409 && error.reason == "Conflict")
        #expect(error.details["causes"]?[0]?["field"] == ".data.a")
        #expect(error.details["causes"]?[0]?["reason"] == "FieldManagerConflict")
        let forced = try await self.apply(cluster, ["a": "9"], by: "m3", force: true)
        let managers = forced.metadata["managedFields"]?.array?.compactMap { $0["manager"]?.string }
        #expect(managers == ["m3"])
    }

    @Test("does not conflict with controllers that write status and other fields")
    func controllers() async throws {
        let cluster = try await makeCluster()
        let body = deployment("d").json
        func apply() async throws -> KubeObject {
            try await cluster.patch(
                .deployments, namespace: "default", name: "d", subresource: nil,
                .apply(body, fieldManager: "helm", force: false))
        }
        _ = try await apply()
        _ = try await cluster.patch(
            .deployments, namespace: "default", name: "d", subresource: "status",
            .merge(["status": ["replicas": 1, "conditions": [["type": "Available", "status": "True"]]]]))
        _ = try await cluster.patch(
            .deployments, namespace: "default", name: "d", subresource: nil,
            .merge(["metadata": ["annotations": ["deployment.kubernetes.io/revision": "1"]]]))
        let again = try await apply()
        #expect(again.status["replicas"] == 1 && again.annotations.count == 1)
    }

    @Test("an update takes the fields it changes")
    func updates() async throws {
        let cluster = try await makeCluster()
        _ = try await self.apply(cluster, ["a": "1"], by: "m1")
        _ = try await cluster.patch(
            .configMaps, namespace: "default", name: "a", subresource: nil, .merge(["data": ["a": "2"]]))
        let error = try await refusal { _ = try await self.apply(cluster, ["a": "1"], by: "m1") }
        #expect(error.message.hasPrefix("Apply failed with 1 conflict: conflict with \"test\" using v1 at "))
        #expect(error.message.hasSuffix(": .data.a"))
    }
}
