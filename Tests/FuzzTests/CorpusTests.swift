import Foundation
import MeshFuzz
import Testing

/// What fuzzers start from, and what they once found, on every run. The long search is `Fuzz/run.sh`.
@Suite("Fuzz corpus")
struct CorpusTests {
    /// Mutations of each target beside its corpus: a debug build does them in some tens of milliseconds.
    static let mutationsPerTarget = 300

    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fuzz/Corpus")

    private static func corpus(_ target: String) throws -> [[UInt8]] {
        try FileManager.default.contentsOfDirectory(
            at: self.folder.appending(path: target), includingPropertiesForKeys: nil
        ).sorted { $0.path < $1.path }.map { Array(try Data(contentsOf: $0)) }
    }

    @Test("every target has one, and none is without target")
    func complete() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
        #expect(folders == FuzzTarget.all.map(\.name).sorted())
    }

    @Test("each input keeps the promises, and so do its neighbours", arguments: FuzzTarget.all.map(\.name))
    func run(name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let corpus = try Self.corpus(name)
        #expect(!corpus.isEmpty)
        for input in corpus { target.run(input) }
        var mutator = Mutator(seed: 1, inputBytesMax: 1024)
        for _ in 0..<Self.mutationsPerTarget { target.run(mutator.input(from: corpus, tokens: target.tokens)) }
    }
}
