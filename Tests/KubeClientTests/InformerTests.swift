import KubeAPI
import KubeClient
import Synchronization
import Testing

/// Plays back scripted answers: each `list` and `watch` takes the next one.
private final class ScriptedCluster: KubeCluster {
    enum Answer: Sendable {
        case list([String], version: String)
        case watch([WatchEvent])
        case failure(StatusError)
    }
    private let answers: Mutex<[Answer]>
    let watchedFrom = Mutex<[String]>([])

    init(_ answers: [Answer]) { self.answers = Mutex(answers) }

    private func next() async throws -> Answer {
        guard let answer = self.answers.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else {
            try await Task.sleep(for: .seconds(3600))
            throw CancellationError()
        }
        return answer
    }

    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        switch try await next() {
        case .list(let names, let version):
            return KubeList(items: names.map { KubeObject(type, name: $0) }, resourceVersion: version)
        case .failure(let error): throw error
        case .watch: throw KubeConnectionError("the script has a watch here")
        }
    }

    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        self.watchedFrom.withLock { $0.append(resourceVersion) }
        switch try await next() {
        case .watch(let events):
            return AsyncThrowingStream { continuation in
                for event in events { continuation.yield(event) }
                continuation.finish()
            }
        case .failure(let error): throw error
        case .list: throw KubeConnectionError("the script has a list here")
        }
    }

    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject { throw unscripted }
    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw unscripted }
    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw unscripted }
    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject { throw unscripted }
    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject { throw unscripted }
    private var unscripted: KubeConnectionError { KubeConnectionError("not in the script") }
}

@Suite("An informer")
struct InformerTests {
    private func object(_ name: String, _ version: String) -> KubeObject {
        var object = KubeObject(.pods, name: name)
        object.json.set(["metadata", "resourceVersion"], to: .string(version))
        return object
    }

    private func follow(_ cluster: ScriptedCluster, events wanted: Int) async -> [String] {
        var seen: [String] = []
        for await event in Informer(cluster, .pods).events() {
            switch event {
            case .snapshot(let objects): seen.append("snapshot " + objects.map(\.name).joined(separator: ","))
            case .updated(let object): seen.append("updated \(object.name)")
            case .deleted(let object): seen.append("deleted \(object.name)")
            }
            if seen.count == wanted { break }
        }
        return seen
    }

    @Test("lists, then watches, and goes on from the last version when the server ends the watch")
    func resumes() async {
        let cluster = ScriptedCluster([
            .list(["a"], version: "5"), .watch([.added(object("b", "6")), .bookmark(resourceVersion: "9")]),
            .watch([.deleted(object("a", "10"))]),
        ])
        #expect(await follow(cluster, events: 3) == ["snapshot a", "updated b", "deleted a"])
        #expect(cluster.watchedFrom.withLock { Array($0.prefix(2)) } == ["5", "9"])
    }

    @Test("lists again when its version has expired")
    func expired() async {
        let gone = StatusError(code: 410, reason: "Expired", message: "too old resource version: 5 (300)")
        let cluster = ScriptedCluster([
            .list(["a"], version: "5"), .failure(gone), .list(["c"], version: "301"),
        ])
        #expect(await follow(cluster, events: 2) == ["snapshot a", "snapshot c"])
    }

    @Test("takes a type that the server does not serve for an empty one")
    func missingType() async {
        let missing = StatusError(code: 404, reason: "NotFound", message: "not found")
        let cluster = ScriptedCluster([.failure(missing), .list(["a"], version: "1")])
        #expect(await follow(cluster, events: 2) == ["snapshot ", "snapshot a"])
    }
}

@Suite("A watch response")
struct WatchStreamTests {
    @Test("is cut into lines wherever its chunks end")
    func lines() throws {
        let text = Array("{\"a\":1}\n\n{\"b\":2}\n".utf8)
        for cut in text.indices {
            var lines = LineSplitter(lineBytesMax: 100)
            let all = try lines.append(text[..<cut]) + lines.append(text[cut...])
            #expect(all.map { String(decoding: $0, as: UTF8.self) } == ["{\"a\":1}", "{\"b\":2}"])
        }
    }

    @Test("bounds a line")
    func bounded() {
        #expect(throws: KubeConnectionError.self) {
            var lines = LineSplitter(lineBytesMax: 10)
            _ = try lines.append(Array(repeating: UInt8(0x20), count: 11))
        }
    }

    @Test("turns an ERROR event into the Status it carries")
    func error() {
        #expect {
            try WatchStream.event(
                Array(#"{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"old"}}"#.utf8))
        } throws: { ($0 as? StatusError)?.isExpired == true }
    }
}
