import MeshHTTP
import Testing

@Suite("Header lists, changed")
struct HeaderListEditTests {
    private let list: HTTP2HeaderList = ["a": "1", "b": "2", "a": "3", "ab": "4"]

    @Test func findByNamesOfTheMoment() {
        #expect(self.list.firstIndex(named: "a") == 0)
        #expect(self.list.firstIndex(named: "a", from: 1) == 2)
        #expect(self.list.firstIndex(named: "a", from: 3) == nil)
        #expect(self.list.firstIndex(bytes: Array("ab".utf8)) == 3)
        #expect(self.list.firstIndex(bytes: [], from: 9) == nil)
        #expect(self.list.value(named: "ab") == "4")
        #expect(self.list.value(named: "A") == nil)
    }

    @Test func removeEveryFieldOfAName() {
        var list = self.list
        list.remove(named: "a")
        #expect(list == ["b": "2", "ab": "4"])
        #expect(list.listBytes == 2 + 3 + 2 * 32)
        list.remove(named: "none")
        list.remove(at: 0)
        #expect(list == ["ab": "4"])
        #expect(list.listBytes == 3 + 32)
    }

    @Test func replaceLeavesOne() {
        var list = self.list
        list.replace("a", "new")
        list.replace("c", "5")
        #expect(list == ["b": "2", "ab": "4", "a": "new", "c": "5"])
    }
}
