import Glibc
import MeshDNS
import MeshDirectory
import MeshModel
import MeshNameService
import MeshProxy
import MeshTelemetry
import MeshTunnel
import NIOPosix
import Synchronization
import Testing

@Suite("A workload that is known by host name")
struct HostnameTests {
    private func world(_ hosts: String...) -> World {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        for host in hosts {
            world.add(
                workload(host) {
                    $0.hostname = "\(host).example.com"
                    $0.serves("web")
                    $0.tunnelProtocol = .none
                })
        }
        return world
    }

    private func addresses(_ texts: String...) -> Result<[IPAddress], HostUnresolved> {
        .success(texts.map { IPAddress($0)! })
    }

    @Test("W11: is looked up, dialled, and counted")
    func resolved() {
        let world = self.world("vm")
        #expect(world.route("10.2.0.1:80") == .resolve("vm.example.com"))
        let text = { world.registry.openMetrics() }
        #expect(!text().contains("istio_on_demand_dns_total{"))
        #expect(
            world.route("10.2.0.1:80", hosts: ["vm.example.com": self.addresses("192.0.2.7")]) == .tcp("192.0.2.7:8080")
        )
        #expect(
            text().contains(
                "istio_on_demand_dns_total{source_workload=\"client-deployment\",source_canonical_service=\"client\","
                    + "source_canonical_revision=\"v1\",source_workload_namespace=\"ns1\",source_principal=\"unknown\","
                    + "source_app=\"client\",source_version=\"v1\",source_cluster=\"Kubernetes\","
                    + "hostname=\"vm.example.com\"} 1"))
    }

    @Test("is dialled in the family that the client uses, else in the other; any of its addresses")
    func families() {
        let world = self.world("vm")
        let both = ["vm.example.com": self.addresses("2001:db8::1", "192.0.2.7", "192.0.2.8")]
        let routes = Set((0..<60).map { _ in "\(world.route("10.2.0.1:80", hosts: both))" })
        #expect(routes == ["TCP to 192.0.2.7:8080", "TCP to 192.0.2.8:8080"])
        #expect(
            world.route("10.2.0.1:80", hosts: ["vm.example.com": self.addresses("2001:db8::1")])
                == .tcp("[2001:db8::1]:8080"))
    }

    @Test("an address that was tried is not tried again; the last one is the end")
    func excluded() {
        let world = self.world("vm")
        let two = ["vm.example.com": self.addresses("192.0.2.7", "192.0.2.8")]
        #expect(world.route("10.2.0.1:80", excluding: ["192.0.2.7"], hosts: two) == .tcp("192.0.2.8:8080"))
        #expect(
            world.route("10.2.0.1:80", excluding: ["192.0.2.7", "192.0.2.8"], hosts: two).isRefused("has been tried"))
    }

    @Test("a name that leads nowhere: another endpoint, or a refusal with the reason")
    func unresolved() {
        let failed: [String: Result<[IPAddress], HostUnresolved>] = [
            "vm.example.com": .failure(HostUnresolved("no such name"))
        ]
        #expect(self.world("vm", "other").route("10.2.0.1:80", hosts: failed) == .resolve("other.example.com"))
        #expect(self.world("vm").route("10.2.0.1:80", hosts: failed).isRefused("no such name"))
    }
}

@Suite("The resolver of workloads' host names", .timeLimit(.minutes(5)))
struct MeshHostResolverTests {
    /// Knows what it is told.
    private final class Hosts: HostResolver {
        let known: [String: ResolvedHost]
        let asked = Mutex<[String]>([])
        init(_ known: [String: ResolvedHost] = [:]) { self.known = known }
        func resolve(_ host: String, completion: @escaping @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void) {
            self.asked.withLock { $0.append(host) }
            completion(self.known[host].map { .success($0) } ?? .failure(HostUnresolved("nobody is called \(host)")))
        }
    }

    private func resolve(
        _ host: String, _ resolvers: [IPEndpoint], isIPv6Enabled: Bool = true, system: Hosts = Hosts()
    ) async -> Result<ResolvedHost, HostUnresolved> {
        let resolver = MeshHostResolver(
            forwarder: DNSForwarder(
                resolvers: resolvers, limits: DNSLimits(), group: MultiThreadedEventLoopGroup.singleton),
            isIPv6Enabled: isIPv6Enabled, system: system)
        return await withCheckedContinuation { continuation in
            resolver.resolve(host) { continuation.resume(returning: $0) }
        }
    }

    /// Both families, the second for a shorter time.
    private static let both: ScriptedResolver.Script = { message, _ in
        guard try! DNSQuery(message).question?.type == .aaaa else {
            return [resolved(message, [IPAddress("192.0.2.7")!, IPAddress("192.0.2.8")!])]
        }
        var answer = resolved(message, [IPAddress("2001:db8::7")!])
        answer[answer.count - 19] = 5
        return [answer]
    }

    @Test("W11: asks for both families, and knows for how long both hold")
    func families() async throws {
        try await ScriptedResolver.with(Self.both) { resolver in
            let system = Hosts()
            let found = try await self.resolve("vm.example.com", [resolver.endpoint], system: system).get()
            #expect(
                Set(found.addresses)
                    == [IPAddress("192.0.2.7")!, IPAddress("192.0.2.8")!, IPAddress("2001:db8::7")!])
            #expect(found.lifetime == .seconds(5))
            #expect(system.asked.withLock { $0 } == [])
        }
    }

    @Test("without IPv6 only the other family is asked for")
    func onlyIPv4() async throws {
        try await ScriptedResolver.with(Self.both) { resolver in
            let found = try await self.resolve("vm.example.com", [resolver.endpoint], isIPv6Enabled: false).get()
            #expect(found.addresses.allSatisfy { !$0.isV6 })
            #expect(found.lifetime == .seconds(77))
        }
    }

    @Test("one family is enough, whatever becomes of the question for the other", arguments: [0, 3, 5])
    func halfAnswer(code: UInt8) async throws {
        try await ScriptedResolver.with({ message, _ in
            if try! DNSQuery(message).question?.type == .a { return [resolved(message, [IPAddress("192.0.2.7")!])] }
            var answer = resolved(message, [])
            answer[3] |= code
            return [answer]
        }) { resolver in
            let found = try await self.resolve("vm.example.com", [resolver.endpoint]).get()
            #expect(found == ResolvedHost(addresses: [IPAddress("192.0.2.7")!], lifetime: .seconds(77)))
        }
    }

    @Test("what the resolvers do not know, or no domain name, the system may know from elsewhere")
    func fallBack() async throws {
        let known = ResolvedHost(addresses: [IPAddress("192.0.2.9")!])
        let system = Hosts(["db": known, "under_score!": known])
        try await ScriptedResolver.with({ message, _ in
            var answer = resolved(message, [])
            answer[3] |= 3
            return [answer]
        }) { resolver in
            #expect(await self.resolve("db", [resolver.endpoint], system: system) == .success(known))
        }
        #expect(await self.resolve("db", [], system: system) == .success(known))
    }

    @Test("a name that nobody knows is answered with what both say")
    func unknown() async throws {
        let answer = await self.resolve("vm.example.com", [])
        guard case .failure(let reason) = answer else {
            Issue.record("found \(answer)")
            return
        }
        #expect("\(reason)".contains("no resolver is known"))
        #expect("\(reason)".hasSuffix("the system's resolver: nobody is called vm.example.com"))
    }
}

@Suite("The system's resolver", .timeLimit(.minutes(1)))
struct SystemHostResolverTests {
    private func resolve(_ resolver: SystemHostResolver, _ host: String) async -> Result<ResolvedHost, HostUnresolved> {
        await withCheckedContinuation { continuation in resolver.resolve(host) { continuation.resume(returning: $0) } }
    }

    @Test("knows this machine")
    func localhost() async throws {
        let found = try await self.resolve(SystemHostResolver(isIPv6Enabled: false), "localhost").get()
        #expect(found.addresses == [IPAddress("127.0.0.1")!])
    }

    @Test("says why a name has no address")
    func unknown() async {
        let failing = SystemHostResolver { throw HostUnresolved("nobody is called \($0)") }
        #expect(await self.resolve(failing, "x") == .failure(HostUnresolved("nobody is called x")))
        let empty = SystemHostResolver { _ in [] }
        #expect(await self.resolve(empty, "x") == .failure(HostUnresolved("x has no addresses")))
    }

    @Test("a few threads at most, a bounded queue, and everybody is answered once")
    func bounded() async {
        final class Busy: Sendable {
            let now = Mutex((count: 0, most: 0))
            let isOpen = Mutex(false)
        }
        let busy = Busy()
        let resolver = SystemHostResolver { _ in
            busy.now.withLock { $0 = ($0.count + 1, max($0.most, $0.count + 1)) }
            while !busy.isOpen.withLock({ $0 }) { usleep(1000) }
            busy.now.withLock { $0.count -= 1 }
            return ["192.0.2.1"]
        }
        let count = SystemHostResolver.threadsMax + SystemHostResolver.queuedMax + 50
        let answers = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<count {
                group.addTask { (try? await self.resolve(resolver, "h\(index)").get()) != nil }
            }
            // The refusals come at once; then the rest may go on.
            var answers: [Bool] = []
            while answers.count < 50, let next = await group.next() { answers.append(next) }
            #expect(!answers.contains(true))
            busy.isOpen.withLock { $0 = true }
            for await next in group { answers.append(next) }
            return answers
        }
        #expect(answers.count == count)
        #expect(answers.count { $0 } <= SystemHostResolver.threadsMax + SystemHostResolver.queuedMax)
        #expect(busy.now.withLock { $0.most } <= SystemHostResolver.threadsMax)
    }

}
