import KubeAPI
import LabAPIServer
import Synchronization
import Testing

@Suite("The object store")
struct ObjectStoreTests {
    private func object(_ name: String) -> JSONValue {
        ["metadata": ["name": .string(name), "uid": .string("u-\(name)")]]
    }

    @Test("gives every write the next revision and lists in key order")
    func revisions() throws {
        let store = try ObjectStore()
        let first = try store.write("x", ObjectKey(namespace: "b", name: "1"), expecting: .absent, self.object("1"))
        let second = try store.write("y", ObjectKey(namespace: "a", name: "2"), expecting: .absent, self.object("2"))
        try store.write("x", ObjectKey(namespace: "a", name: "9"), expecting: .absent, self.object("9"))
        #expect(second.revision == first.revision + 1)
        let (objects, revision) = store.snapshot("x")
        #expect(objects.map(\.key.description) == ["a/9", "b/1"])
        #expect(revision == second.revision + 1)
        #expect(store.snapshot("x", namespace: "b").objects.map(\.key.name) == ["1"])
    }

    @Test("refuses a write that was computed from an older state")
    func compareAndSet() throws {
        let store = try ObjectStore()
        let key = ObjectKey(name: "n")
        let first = try store.write("x", key, expecting: .absent, self.object("n"))
        try store.write("x", key, expecting: .revision(first.revision), self.object("n"))
        #expect(throws: ObjectStore.WriteConflict.self) {
            try store.write("x", key, expecting: .revision(first.revision), self.object("n"))
        }
        #expect(throws: ObjectStore.WriteConflict.self) {
            try store.write("x", key, expecting: .absent, self.object("n"))
        }
    }

    @Test("replays to a watcher exactly what came after its start, in order")
    func replay() throws {
        let store = try ObjectStore()
        let seen = Mutex<[UInt64]>([])
        let first = try store.write("x", ObjectKey(name: "1"), expecting: .absent, self.object("1"))
        let second = try store.write("x", ObjectKey(name: "2"), expecting: .absent, self.object("2"))
        let watch = try store.watch("x", namespace: nil, name: nil, from: first.revision, wantsInitial: false) {
            signal in
            if case .change(let change) = signal { seen.withLock { $0.append(change.revision) } }
        }
        let third = try store.write("x", ObjectKey(name: "1"), expecting: .revision(first.revision), nil)
        store.unwatch("x", watch.id)
        try store.write("x", ObjectKey(name: "3"), expecting: .absent, self.object("3"))
        #expect(seen.withLock { $0 } == [second.revision, third.revision])
    }

    @Test("a start point beyond the kept history is expired, one in the future is refused")
    func bounds() throws {
        let store = try ObjectStore()
        for index in 0...10_001 {
            try store.write("x", ObjectKey(name: "\(index)"), expecting: .absent, self.object("\(index)"))
        }
        #expect(throws: ObjectStore.WatchError.self) {
            try store.watch("x", namespace: nil, name: nil, from: 1, wantsInitial: false) { _ in }
        }
        #expect(throws: ObjectStore.WatchError.future(from: 99_999, current: store.revision)) {
            try store.watch("x", namespace: nil, name: nil, from: 99_999, wantsInitial: false) { _ in }
        }
        // Another kind's churn does not expire this one.
        let quiet = try store.watch("y", namespace: nil, name: nil, from: 5, wantsInitial: false) { _ in }
        store.unwatch("y", quiet.id)
    }

    @Test("keeps objects and never reuses a revision across a restart")
    func durable() async throws {
        let scratch = try Scratch()
        let path = scratch.path + "/o.sqlite"
        var last: UInt64 = 0
        do {
            let store = try ObjectStore(path: path)
            for index in 0..<20 {
                try store.write("x", ObjectKey(name: "\(index)"), expecting: .absent, self.object("\(index)"))
            }
            let gone = try #require(store.get("x", ObjectKey(name: "3")))
            last = try store.write("x", gone.key, expecting: .revision(gone.revision), nil).revision
            try await store.persisted(last)
        }
        let again = try ObjectStore(path: path)
        #expect(again.snapshot("x").objects.count == 19)
        #expect(again.get("x", ObjectKey(name: "3")) == nil)
        #expect(again.revision > last)
        #expect(throws: ObjectStore.WatchError.self) {
            try again.watch("x", namespace: nil, name: nil, from: last, wantsInitial: false) { _ in }
        }
    }
}
