import KubeAPI
import Testing

@Suite("A label selector")
struct LabelSelectorTests {
    @Test(
        "matches by its query text",
        arguments: [
            ("a=1", ["a": "1"], true), ("a==1", ["a": "2"], false), ("a!=1", [:], true), ("a!=1", ["a": "1"], false),
            ("a", ["a": ""], true), ("!a", ["a": ""], false), ("!a", [:], true), ("a in (1, 2)", ["a": "2"], true),
            ("a notin (1,2)", [:], true), ("a notin (1,2)", ["a": "1"], false),
            ("pg in (1),!zz", ["pg": "1"], true), ("a>5", ["a": "6"], true), ("a<5", ["a": "6"], false),
            ("", ["x": "y"], true), ("a=", ["a": ""], true), (" a = 1 , b ", ["a": "1", "b": "2"], true),
            ("kubernetes.io/service-name=sleep", ["kubernetes.io/service-name": "sleep"], true),
        ] as [(String, [String: String], Bool)])
    func query(text: String, labels: [String: String], expected: Bool) throws {
        #expect(try LabelSelector(query: text).matches(labels) == expected)
    }

    @Test("refuses malformed queries", arguments: ["a in 1", "a in (1", "=1", "a=b=c", "a x (1)", "!", "a,,b"])
    func malformed(text: String) {
        #expect(throws: LabelSelector.Invalid.self) { try LabelSelector(query: text) }
    }

    @Test("writes a query that means the same")
    func roundTrip() throws {
        for text in ["a=1,b in (1,2),c notin (3),d,!e"] {
            let selector = try LabelSelector(query: text)
            #expect(try LabelSelector(query: selector.query) == selector)
        }
    }

    @Test("reads a manifest's form")
    func manifest() throws {
        let selector = try LabelSelector([
            "matchLabels": ["app": "x"],
            "matchExpressions": [["key": "mode", "operator": "NotIn", "values": ["none"]]],
        ])
        #expect(selector.matches(["app": "x"]))
        #expect(!selector.matches(["app": "x", "mode": "none"]))
        #expect(throws: LabelSelector.Invalid.self) {
            try LabelSelector(["matchExpressions": [["key": "a", "operator": "Near"]]])
        }
        #expect(throws: LabelSelector.Invalid.self) {
            try LabelSelector(["matchExpressions": [["key": "a", "operator": "In"]]])
        }
    }
}
