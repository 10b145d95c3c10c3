internal import Glibc

/// The control plane without a cluster: generated objects into the index, what comes out into the xDS server, and one
/// client's stream. Prints how long the first build takes, how long one change takes, and the resident memory.
///
///     martlet-control-bench [--workloads 100000] [--services 20000] [--nodes 1000] [--namespaces 200]
///     martlet-control-bench --routes 5000
///
/// With `--routes` it is about waypoints: so many routes, each at a service of its own and then all at one.
@main
struct ControlBench {
    static func main() throws {
        let size = try Size(CommandLine.arguments.dropFirst())
        if let routes = size.routes { return Self.measureRules(routes) }
        let bench = Bench(size)
        print(
            "workloads \(size.workloads), services \(size.services), nodes \(size.nodes), "
                + "namespaces \(size.namespaces)")
        report("objects read", seconds: bench.feed())
        report("index built, resources encoded", seconds: bench.build())
        report("snapshot published", seconds: bench.publish())
        report("first answer to one client made", seconds: bench.connect())
        print("resident \(residentMegabytes()) MB")
        for change in Bench.Change.allCases {
            let (median, worst, resources) = bench.measure(change, rounds: 20)
            print(
                "\(change.rawValue): median \(milliseconds(median)) ms, worst \(milliseconds(worst)) ms, "
                    + "\(resources) resources to the client")
        }
        print("resident \(residentMegabytes()) MB")
    }

    private static func measureRules(_ routes: Int) {
        for services in [routes, 1] {
            let bench = RulesBench(routes: routes, services: services)
            print("routes \(routes), services \(services)")
            report("all of them read, resolved and sent", seconds: bench.build())
            let (median, worst, bytes) = bench.measure(rounds: 50)
            print(
                "one route changes: median \(milliseconds(median)) ms, worst \(milliseconds(worst)) ms, \(bytes) bytes")
        }
        print("resident \(residentMegabytes()) MB")
    }
}

func report(_ what: String, seconds duration: Duration) {
    print("\(what): \(milliseconds(duration)) ms")
}

func milliseconds(_ duration: Duration) -> String {
    let microseconds = duration.components.seconds * 1_000_000 + duration.components.attoseconds / 1_000_000_000_000
    let tenths = (microseconds + 50) / 100
    return "\(tenths / 10).\(tenths % 10)"
}

/// From /proc/self/statm: the second number, in pages.
func residentMegabytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 256)
    guard fgets(&buffer, 256, file) != nil else { return 0 }
    let text = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return pages * Int(sysconf(Int32(_SC_PAGESIZE))) / 1_000_000
}

struct Size {
    var workloads = 100_000
    var services = 20_000
    var nodes = 1000
    var namespaces = 200
    /// Nil: nothing about routes.
    var routes: Int?

    struct Invalid: Error, CustomStringConvertible {
        let description: String
    }

    init(_ arguments: some Sequence<String>) throws(Invalid) {
        var rest = Array(arguments)[...]
        while let name = rest.popFirst() {
            guard let text = rest.popFirst(), let number = Int(text), number > 0 else {
                throw Invalid(description: "\(name) wants a number above 0")
            }
            switch name {
            case "--workloads": self.workloads = number
            case "--services": self.services = number
            case "--nodes": self.nodes = number
            case "--namespaces": self.namespaces = number
            case "--routes": self.routes = number
            default:
                throw Invalid(
                    description: "unknown argument \(name); known are --workloads, --services, --nodes, --namespaces, "
                        + "--routes")
            }
        }
    }
}
