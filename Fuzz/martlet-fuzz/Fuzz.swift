internal import Foundation
internal import MeshFuzz

#if MARTLET_LIBFUZZER

    /// libFuzzer's entry: `MARTLET_FUZZ_TARGET` names the target.
    private let target: FuzzTarget = {
        let name = ProcessInfo.processInfo.environment["MARTLET_FUZZ_TARGET"] ?? ""
        guard let target = FuzzTarget.named(name) else {
            fatalError("MARTLET_FUZZ_TARGET: wanted one of \(FuzzTarget.all.map(\.name))")
        }
        return target
    }()

    @_cdecl("LLVMFuzzerTestOneInput")
    public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        target.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }

#else

    /// Without libFuzzer: mutations of the corpus, no coverage.
    ///
    ///     martlet-fuzz list
    ///     martlet-fuzz TARGET SECONDS CORPUS-FOLDER [SEED]
    ///     martlet-fuzz TARGET FILE...
    ///
    /// SECONDS are of CPU time.
    @main
    struct Fuzz {
        static func main() {
            let arguments = Array(CommandLine.arguments.dropFirst())
            if arguments == ["list"] {
                for target in FuzzTarget.all { print(target.name) }
                return
            }
            guard arguments.count >= 2, let target = FuzzTarget.named(arguments[0]) else {
                complain("usage: martlet-fuzz list | TARGET SECONDS CORPUS-FOLDER [SEED] | TARGET FILE...")
                exit(2)
            }
            guard let seconds = Double(arguments[1]), arguments.count >= 3 else {
                for path in arguments.dropFirst() { target.run(self.read(path)) }
                return
            }
            let seed = arguments.count > 3 ? UInt64(arguments[3]) : nil
            self.fuzz(target, seconds, self.corpus(arguments[2]), seed ?? UInt64.random(in: 0..<1 << 32))
        }

        private static func fuzz(_ target: FuzzTarget, _ seconds: Double, _ corpus: [[UInt8]], _ seed: UInt64) {
            var mutator = Mutator(seed: seed)
            let end = self.processorSeconds() + seconds
            var count = 0
            for input in corpus { target.run(input) }
            while count % 256 != 0 || self.processorSeconds() < end {
                let input = mutator.input(from: corpus, tokens: target.tokens)
                LastInput.note(target.name, input)
                target.run(input)
                count += 1
            }
            print("\(target.name): \(count) inputs from \(corpus.count) files, seed \(seed): no promise was broken")
        }

        /// What this process has had of the processors: a busy machine must not make a search shorter.
        private static func processorSeconds() -> Double {
            var time = timespec()
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }

        private static func corpus(_ folder: String) -> [[UInt8]] {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            return names.sorted().map { self.read("\(folder)/\($0)") }
        }

        private static func read(_ path: String) -> [UInt8] {
            guard let data = FileManager.default.contents(atPath: path) else {
                complain("\(path) cannot be read")
                exit(2)
            }
            return Array(data)
        }
    }

    func complain(_ text: String) { FileHandle.standardError.write(Data("martlet-fuzz: \(text)\n".utf8)) }

    /// When a promise breaks, the input is written to `crash-TARGET` in the current folder.
    enum LastInput {
        // SAFETY: written by the main thread, read by its signal handler.
        nonisolated(unsafe) private static var input: [UInt8] = []
        nonisolated(unsafe) private static var path: [CChar] = []

        static func note(_ target: String, _ input: [UInt8]) {
            self.input = input
            guard self.path.isEmpty else { return }
            self.path = Array("crash-\(target)".utf8CString)
            for number in [SIGILL, SIGTRAP, SIGSEGV, SIGABRT] {
                signal(number) { number in
                    let file = open(LastInput.path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
                    _ = LastInput.input.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
                    close(file)
                    signal(number, SIG_DFL)
                    raise(number)
                }
            }
        }
    }

#endif
