import Foundation
import MeshLoop
import MeshTestSupport
import Testing

@Suite("A file of revocation lists")
struct RevocationListTests {
    private let ca: TestCA
    private let leaf: [UInt8]

    init() throws {
        self.ca = try TestCA()
        self.leaf = try self.ca.issue(uris: ["spiffe://cluster.local/ns/default/sa/a"]).chain[0]
    }

    @Test("nothing, blanks, and PEM without a list revoke nothing")
    func empty() throws {
        for bytes in [[], Array(" \n\t\n".utf8), TestCA.pem(certificate: self.leaf)] {
            let list = try RevocationList(bytes)
            #expect(list.lists == 0 && list.entries == 0)
        }
    }

    @Test("is one DER list, or PEM with several among other blocks")
    func forms() throws {
        let one = try self.ca.revocationList(of: [self.leaf])
        #expect(try RevocationList(one).entries == 1)
        let none = try self.ca.revocationList(of: [])
        let several = TestCA.pem(list: one) + TestCA.pem(certificate: self.leaf) + TestCA.pem(list: none)
        let list = try RevocationList(several)
        #expect(list.lists == 2 && list.entries == 1)
    }

    @Test("a broken one is refused whole, with the number of the list and the reason")
    func broken() throws {
        let good = try self.ca.revocationList(of: [self.leaf])
        func reason(_ bytes: [UInt8]) -> String? {
            do throws(RevocationListError) { _ = try RevocationList(bytes) } catch { return error.description }
            return nil
        }
        #expect(reason(Array("hello".utf8)) == "list 1: not the encoding of a list")
        #expect(reason(good + [0]) == "list 1: not the encoding of a list")
        #expect(
            reason(TestCA.pem(list: good) + TestCA.pem(list: [0x30, 3, 1])) == "list 2: not the encoding of a list")
        #expect(reason(TestCA.pem(list: good).dropLast(60)) == "list 1: a PEM block is broken")
        // Every prefix is refused, or (cut before the first line was whole) is no list.
        for length in 1..<good.count { #expect(reason(Array(good[..<length])) != nil) }
        let many = (0...RevocationList.listsMax).flatMap { _ in TestCA.pem(list: good) }
        #expect(reason(many) == "list 257: too many lists")
    }

    @Test("one that means something else than it says is refused: a delta, an unknown critical extension")
    func unsupported() throws {
        for (kind, word) in [(TestCA.ListKind.delta, "delta"), (.unknownCritical, "critical extension")] {
            let bytes = try self.ca.revocationList(of: [self.leaf], kind: kind)
            let error = #expect(throws: RevocationListError.self) { try RevocationList(bytes) }
            #expect(error?.description.contains(word) == true)
        }
    }

    @Test("tells when a newer one should be there")
    func outdated() throws {
        let list = try RevocationList(try self.ca.revocationList(of: [], validity: -60..<600))
        let now = Int64(Date().timeIntervalSince1970)
        #expect(!list.isOutdated(nowSeconds: now) && list.isOutdated(nowSeconds: now + 1200))
    }

}
