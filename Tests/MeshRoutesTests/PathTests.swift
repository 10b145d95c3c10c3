import MeshRoutes
import Testing

@Suite("Paths")
struct PathTests {
    @Test(
        "have one form",
        arguments: [
            ("/", "/"), ("/a/b?c/../d", "/a/b?c/../d"), ("*", "*"),
            // Dots, plain and escaped (RFC 3986, 5.2.4).
            ("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/a/b/..", "/a/"), ("/a/.", "/a/"), ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"), ("/a/.%2e", "/"), ("/a/...", "/a/..."), ("/a/.b", "/a/.b"), ("/a/..b/c", "/a/..b/c"),
            ("/a//../b", "/a/b"), ("/./", "/"),
            // Unreserved characters are decoded, others get capital digits.
            ("/%61dmin", "/admin"), ("/%7euser", "/~user"), ("/a%2fb", "/a%2Fb"), ("/a%20b", "/a%20b"),
            ("/%c3%a9", "/%C3%A9"),
            // Not twice, and a percent sign that escapes nothing stays one.
            ("/%2561", "/%2561"), ("/%", "/%25"), ("/%6", "/%256"), ("/%zz", "/%25zz"), ("/a%", "/a%25"),
            ("/%%61dmin", "/%25admin"), ("/%%36%31dmin", "/%2561dmin"),
            // Backslashes, as browsers read them.
            ("/a\\..\\b", "/b"), ("/a%5Cb", "/a%5Cb"),
            ("//a//b", "//a//b"), ("/a/b?%2e%2e", "/a/b?%2e%2e"),
        ])
    func base(path: String, wanted: String) throws { #expect(try PathNormalization.base.normalized(path) == wanted) }

    @Test(
        "with merged slashes",
        arguments: [
            ("//a//b///c", "/a/b/c"), ("/a//../b", "/b"), ("/a%2F/b", "/a%2F/b"), ("/a/?//", "/a/?//"),
        ])
    func mergeSlashes(path: String, wanted: String) throws {
        #expect(try PathNormalization.mergeSlashes.normalized(path) == wanted)
    }

    @Test(
        "with slashes decoded",
        arguments: [
            ("/a%2Fb", "/a/b"), ("/a%2f%2fb", "/a/b"), ("/a%5cb", "/a/b"), ("/a%2f..%2fb", "/b"),
            ("/a%252fb", "/a%252fb"),
        ])
    func decodeSlashes(path: String, wanted: String) throws {
        #expect(try PathNormalization.decodeAndMergeSlashes.normalized(path) == wanted)
    }

    @Test("as they come, when nothing is asked")
    func none() throws { #expect(try PathNormalization.none.normalized("/a/../%61") == "/a/../%61") }

    @Test(
        "that nobody means well are refused",
        arguments: [
            ("/a#b", PathRefusal.fragment), ("/a?b#c", .fragment), ("/a%00b", .escapedNull),
        ])
    func refused(path: String, refusal: PathRefusal) {
        #expect(throws: refusal) { try PathNormalization.base.normalized(path) }
    }

    @Test(
        "are normal once they are normalised",
        arguments: ["/a/./b/../%61//%2e%2e/", "/%2e/%2e%2e/x\\..", "//..//../a/."])
    func idempotent(path: String) throws {
        for form in [PathNormalization.base, .mergeSlashes, .decodeAndMergeSlashes] {
            let once = try form.normalized(path)
            #expect(try form.normalized(once) == once)
        }
    }
}
