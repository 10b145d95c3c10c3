import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("Trust domain aliases in policies")
struct TrustDomainTests {
    private func principals(
        _ values: [String], settings yaml: String, key: String = "principals"
    ) throws -> [AuthorizationPolicy.StringMatch] {
        let settings = try MeshSettings().merging(meshConfig: yaml)
        let source: JSONValue = .object([key: .array(values.map { .string($0) })])
        let outcome = AuthorizationConverter.convert(
            PolicyView(
                Make.policy("p", namespace: "ns1", annotations: [:], ["rules": [["from": [["source": source]]]]])),
            settings)
        let match = try #require(outcome.policy?.rules.first?.clauses.first?.matches.first)
        return key == "principals" ? match.principals : match.notPrincipals
    }

    private static let yaml = "trustDomain: new.example\ntrustDomainAliases: [old.example, older.example]\n"

    @Test(
        "a principal of any name of the mesh means the same of all of them", arguments: ["principals", "notPrincipals"])
    func expanded(key: String) throws {
        for domain in ["new.example", "old.example", "cluster.local"] {
            #expect(
                try self.principals(["\(domain)/ns/a/sa/b"], settings: Self.yaml, key: key) == [
                    .exact("new.example/ns/a/sa/b"), .exact("old.example/ns/a/sa/b"), .exact("older.example/ns/a/sa/b"),
                ])
        }
    }

    @Test("others stay as they are; what is the same twice is once")
    func kept() throws {
        #expect(
            try self.principals(["foreign.example/ns/a/sa/b", "*"], settings: Self.yaml)
                == [.exact("foreign.example/ns/a/sa/b"), .presence])
        #expect(
            try self.principals(["old.example/ns/a/*", "new.example/ns/a/*"], settings: Self.yaml) == [
                .prefix("new.example/ns/a/"), .prefix("old.example/ns/a/"), .prefix("older.example/ns/a/"),
            ])
        #expect(
            try self.principals(["*.example/ns/a/sa/b"], settings: Self.yaml) == [.suffix(".example/ns/a/sa/b")])
        #expect(
            try self.principals(["*w.example/ns/a/sa/b"], settings: Self.yaml) == [
                .suffix("w.example/ns/a/sa/b"), .exact("old.example/ns/a/sa/b"), .exact("older.example/ns/a/sa/b"),
            ])
        #expect(try self.principals(["x.example/ns/a/sa/b"], settings: "") == [.exact("x.example/ns/a/sa/b")])
    }

    @Test("an alias that could mean more than a name is refused", arguments: ["['*']", "[a/b]", "['']", "x", "[1]"])
    func refused(aliases: String) {
        #expect(throws: InvalidMeshConfig.self) {
            try MeshSettings().merging(meshConfig: "trustDomainAliases: \(aliases)\n")
        }
    }
}
