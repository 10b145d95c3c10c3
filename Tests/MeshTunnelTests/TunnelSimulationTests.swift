import Foundation
import MeshLoop
import MeshTestSupport
import Synchronization
import Testing

/// `MARTLET_SIMULATION_SEEDS=100000` runs more of them, `MARTLET_SIMULATION_SEED=4711` runs one again. A history is
/// the same in every process only with `SWIFT_DETERMINISTIC_HASHING=1`, which `make test` sets: the order in which a
/// dictionary is walked is part of it.
@Suite("Simulation of pool, tunnels and streams", .serialized, .timeLimit(.minutes(30)))
struct TunnelSimulationTests {
    static let seedsDefault = 10_000
    /// What the default may take on a slow machine; a number of seeds that was asked for takes what it takes.
    static let secondsMax = 100.0
    /// Three engines and two tunnels for each connection take longer.
    static let gatewaySeedsDefault = 1_000
    static let gatewaySecondsMax = 20.0

    /// Histories that once went wrong.
    static let regressions: [UInt64] = [65, 1182, 1292, 1674, 2024, 2342, 5666]

    private static let environment = ProcessInfo.processInfo.environment

    // SAFETY: under `turn`, or by the only test that reads it.
    nonisolated(unsafe) private static var stepsTotal = 0

    /// One simulation has the process at a time.
    private static let turn = Mutex(())

    private static func run(_ seed: UInt64, throughGateway: Bool = false) throws -> UInt64 {
        try Self.turn.withLock { _ in
            SeedOnCrash.note(seed)
            // Descriptors of the world are closed as its objects go.
            defer { Simulation.kernel = nil }
            return try Self.history(seed, throughGateway)
        }
    }

    private static func history(_ seed: UInt64, _ throughGateway: Bool) throws -> UInt64 {
        do {
            let world = try SimulatedWorld(seed: seed, throughGateway: throughGateway)
            do {
                try world.run()
            } catch {
                throw Failed(
                    description: "seed \(seed)\(throughGateway ? " through a gateway" : ""), step \(world.steps), "
                        + "faults \(world.faults): \(error)\n"
                        + "run it again: SWIFT_DETERMINISTIC_HASHING=1 MARTLET_SIMULATION_SEED=\(seed) "
                        + "swift test --filter TunnelSimulationTests")
            }
            Self.stepsTotal += world.steps
            return world.trace
        }
    }

    struct Failed: Error, CustomStringConvertible { var description: String }

    @Test("histories that once went wrong", arguments: regressions)
    func again(seed: UInt64) async throws { try await offThread { _ = try Self.run(seed) } }

    @Test("no seed breaks a promise")
    func seeds() async throws { try await offThread { try Self.runSeeds(Self.seedsDefault) } }

    @Test("nor through a gateway, with a tunnel in each stream of a tunnel")
    func gatewaySeeds() async throws {
        try await offThread { try Self.runSeeds(Self.gatewaySeedsDefault, throughGateway: true) }
    }

    private static func runSeeds(_ usual: Int, throughGateway: Bool = false) throws {
        if let seed = Self.environment["MARTLET_SIMULATION_SEED"].flatMap({ UInt64($0) }) {
            _ = try Self.run(seed, throughGateway: throughGateway)
            return
        }
        let wanted = Self.environment["MARTLET_SIMULATION_SEEDS"].flatMap { Int($0) }
        let (start, cpu) = (Date(), Self.threadNanoseconds())
        var count = 0
        Self.stepsTotal = 0
        var failures: [String] = []
        let secondsMax = throughGateway ? Self.gatewaySecondsMax : Self.secondsMax
        while count < wanted ?? usual, failures.count < 5 {
            if wanted == nil, Date().timeIntervalSince(start) > secondsMax { break }
            count += 1
            do { _ = try Self.run(UInt64(count), throughGateway: throughGateway) } catch { failures.append("\(error)") }
        }
        print(
            "simulation: \(count) seeds, \(Self.stepsTotal) steps in \(Int(Date().timeIntervalSince(start) * 1000)) ms, "
                + "of them \((Self.threadNanoseconds() - cpu) / 1_000_000) ms of a core")
        #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
    }

    private static func threadNanoseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    @Test("the same seed makes the same history")
    func deterministic() async throws {
        guard Self.environment["SWIFT_DETERMINISTIC_HASHING"] != nil else { return }
        for seed in [3, 17, 255, 1_000_003] as [UInt64] {
            let (first, second) = try await offThread { (try Self.run(seed), try Self.run(seed)) }
            #expect(first == second)
        }
    }
}

/// A broken precondition ends the process; then the seed is on standard error.
enum SeedOnCrash {
    // SAFETY: written by the one thread that simulates, read by its signal handler.
    nonisolated(unsafe) private static var text = [UInt8]()
    nonisolated(unsafe) private static var isInstalled = false

    static func note(_ seed: UInt64) {
        self.text = Array("\nthe simulation crashed at seed \(seed)\n".utf8)
        guard !self.isInstalled else { return }
        self.isInstalled = true
        for number in [SIGILL, SIGTRAP, SIGABRT] {
            signal(number) { number in
                SeedOnCrash.text.withUnsafeBytes { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }
}
