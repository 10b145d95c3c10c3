import KubeAPI
import Testing

@Suite("A JSON tree")
struct JSONValueTests {
    @Test(
        "comes back as it was written",
        arguments: [
            "null", "true", "3", "-9223372036854775808", "1.5", "\"a\\\"\\\\\\n\\u0001é😀\"", "[]", "{}",
            "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
        ])
    func roundTrip(text: String) throws {
        #expect(try JSONValue(parsing: text).description == text)
    }

    @Test("keeps integers and floating-point numbers apart")
    func numbers() throws {
        #expect(try JSONValue(parsing: "3") == .int(3))
        #expect(try JSONValue(parsing: "3.0") == .double(3))
        #expect(try JSONValue(parsing: "9223372036854775808") == .double(9_223_372_036_854_775_808))
        #expect(JSONValue.double(3).int == 3)
        #expect(JSONValue.double(3.5).int == nil)
    }

    @Test("loses a member that is set to nil by a condition: absence, not a JSON null", arguments: [true, false])
    func absence(isEmpty: Bool) {
        var value: JSONValue = ["kept": .null, "list": [1]]
        value["list"] = isEmpty ? nil : .array([2])
        #expect(value == (isEmpty ? ["kept": .null] : ["kept": .null, "list": [2]]))
    }

    @Test("reads escapes and surrogate pairs; a lone surrogate becomes U+FFFD")
    func escapes() throws {
        #expect(try JSONValue(parsing: #""\u00e9\ud83d\ude00\/\b\f\r\t""#) == "é😀/\u{8}\u{c}\r\t")
        #expect(try JSONValue(parsing: #""\ud83dx""#) == "\u{fffd}x")
    }

    @Test(
        "refuses what is no JSON",
        arguments: [
            "", " ", "{", "[1", "[1,]", "{\"a\"}", "{\"a\":1,}", "{a:1}", "01", "1.", "-", "+1", ".5", "1e", "tru",
            "\"\\x\"", "\"\\u12\"", "\"a", "\"\n\"", "1 2", "[1] x", "nan",
        ])
    func malformed(text: String) {
        #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    }

    @Test("bounds the depth")
    func depth() throws {
        #expect(throws: Never.self) {
            try JSONValue(parsing: String(repeating: "[", count: 200) + String(repeating: "]", count: 200))
        }
        #expect(throws: JSONError.self) {
            try JSONValue(parsing: String(repeating: "[", count: 100_000))
        }
    }

    @Test("is set and removed deep inside")
    func paths() {
        var value: JSONValue = ["a": ["b": 1]]
        value.set(["a", "c", "d"], to: "x")
        #expect(value == ["a": ["b": 1, "c": ["d": "x"]]])
        value.set(["a", "c"], to: nil)
        #expect(value == ["a": ["b": 1]])
        value.set(["q", "r"], to: nil)
        #expect(value == ["a": ["b": 1]])
        #expect(value.at("a", "b")?.int == 1)
        #expect(value.at("a", "x", "y") == nil)
    }

    @Test("never crashes on damaged text")
    func damaged() throws {
        let good = Array(#"{"kind":"Pod","spec":{"n":[1,2.5e3,true,null,"\u00e9"]}}"#.utf8)
        for index in good.indices {
            for byte in [0, 0x22, 0x5b, 0x5c, 0x7d, 0xff] as [UInt8] {
                var bytes = good
                bytes[index] = byte
                _ = try? JSONValue(parsing: bytes)
            }
            _ = try? JSONValue(parsing: Array(good[..<index]))
        }
    }
}
