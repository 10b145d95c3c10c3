import KubeAPI
import KubeClient
import Testing

@Suite("YAML as kubectl reads it")
struct YAMLTests {
    @Test(
        "types plain scalars and leaves quoted ones alone",
        arguments: [
            ("a: 1", ["a": 1]), ("a: '1'", ["a": "1"]), ("a: yes", ["a": true]), ("a: \"yes\"", ["a": "yes"]),
            ("a: 1.5", ["a": 1.5]), ("a: 1.2.3", ["a": "1.2.3"]), ("a: ~", ["a": .null]), ("a:", ["a": .null]),
            ("a: 0x1F", ["a": 31]), ("a: 12e3x", ["a": "12e3x"]), ("- 1\n- b", [1, "b"]), ("1: x", ["1": "x"]),
            ("a: |\n  x\n  y\n", ["a": "x\ny\n"]), ("a: 2024-01-01", ["a": "2024-01-01"]),
        ] as [(String, JSONValue)])
    func scalars(text: String, expected: JSONValue) throws {
        #expect(try JSONValue(yaml: text) == expected)
    }

    @Test("reads every document of a stream and skips empty ones")
    func stream() throws {
        #expect(try JSONValue.documents(yaml: "---\na: 1\n---\n# nothing\n---\nb: 2\n") == [["a": 1], ["b": 2]])
    }

    @Test("writes text that is read back as the same value")
    func roundTrip() throws {
        let value: JSONValue = [
            "yes": "no", "n": 5, "list": ["1", 1, true, "true", .null, ""], "text": "a\nb\n", "deep": ["x": [:]],
            "half": 0.5, "tilde": "~", "colon": "a: b", "empty": [],
        ]
        #expect(try JSONValue(yaml: value.yaml) == value)
    }

    @Test("an error says where")
    func malformed() {
        #expect(throws: (any Error).self) { try JSONValue(yaml: "a: [1") }
    }
}
