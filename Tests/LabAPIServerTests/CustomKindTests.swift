import KubeAPI
import KubeClient
import LabAPIServer
import Testing

@Suite("Custom kinds")
struct CustomKindTests {
    private func cluster() async throws -> LabClusterClient {
        let cluster = try await makeCluster()
        try await cluster.create(.customResourceDefinitions, KubeObject(widgetDefinition))
        return cluster
    }

    @Test("are served as soon as their definition is accepted, and gone with it")
    func lifecycle() async throws {
        let cluster = try await self.cluster()
        let definition = try await cluster.get(.customResourceDefinitions, namespace: nil, name: "widgets.lab.test")
        #expect(definition.condition("Established") == "True")
        #expect(definition.spec.at("names", "listKind") == "WidgetList")
        try await cluster.create(widgets, widget("w", ["size": 1]))
        try await cluster.delete(.customResourceDefinitions, name: "widgets.lab.test")
        let error = try await refusal { _ = try await cluster.list(widgets) }
        #expect(error.isNotFound)
        try await cluster.create(.customResourceDefinitions, KubeObject(widgetDefinition))
        #expect(try await cluster.list(widgets).items.isEmpty)
    }

    @Test("are defaulted and pruned")
    func shaped() async throws {
        let cluster = try await self.cluster()
        let made = try await cluster.create(widgets, widget("w", ["size": 1, "bogus": true]))
        #expect(made.spec == ["size": 1, "color": "red"] && made.generation == 1)
    }

    @Test(
        "are validated with the wording of Kubernetes",
        arguments: [
            (
                ["size": "abc"],
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
            ),
            (["size": 11], "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
            ([:], "spec.size: Required value"),
            (
                ["size": 1, "color": "green"],
                "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\""
            ),
            (
                ["size": 1, "parts": [["name": "a"], ["name": "a"]]],
                "spec.parts[1]: Duplicate value: {\"name\":\"a\"}"
            ),
        ] as [(JSONValue, String)])
    func validated(spec: JSONValue, message: String) async throws {
        let cluster = try await self.cluster()
        let error = try await refusal { try await cluster.create(widgets, widget("w", spec)) }
        #expect(error.code == 422)
        #expect(error.message == "Widget.lab.test \"w\" is invalid: \(message)")
    }

    @Test("have a status of their own, and no strategic patches")
    func status() async throws {
        let cluster = try await self.cluster()
        try await cluster.create(widgets, widget("w", ["size": 1]))
        let patched = try await cluster.patch(
            widgets, namespace: "default", name: "w", subresource: "status", .merge(["status": ["ready": true]]))
        #expect(patched.status["ready"] == true && patched.generation == 1)
        let error = try await refusal {
            _ = try await cluster.patch(
                widgets, namespace: "default", name: "w", subresource: nil, .strategic(["spec": ["size": 2]]))
        }
        #expect(error.code == 415)
    }

    @Test("own list elements by key under server-side apply")
    func apply() async throws {
        let cluster = try await self.cluster()
        func apply(_ parts: JSONValue, _ manager: String) async throws -> KubeObject {
            try await cluster.patch(
                widgets, namespace: "default", name: "w", subresource: nil,
                .apply(widget("w", ["size": 1, "parts": parts]).json, fieldManager: manager, force: false))
        }
        _ = try await apply([["name": "a", "count": 1]], "m1")
        let both = try await apply([["name": "b"]], "m2")
        #expect(Set(both.spec["parts"]?.array?.compactMap { $0["name"]?.string } ?? []) == ["a", "b"])
        let less = try await apply([], "m2")
        #expect(less.spec["parts"] == [["name": "a", "count": 1]])
    }
}
