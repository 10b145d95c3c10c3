import Logging
import MeshTelemetry
import Synchronization
import Testing

/// Keeps what is written.
final class Memory: LogDestination {
    private let bytes = Mutex<[UInt8]>([])
    func write(_ bytes: [UInt8]) { self.bytes.withLock { $0 += bytes } }
    var text: String { self.bytes.withLock { String(decoding: $0, as: UTF8.self) } }
    var lines: [Substring] { self.text.split(separator: "\n") }
}

@Suite("A log line")
struct LogLineTests {
    private let line = LogLine(
        microseconds: 1_764_104_414_000_123, level: .info, scope: "access", message: "connection complete",
        fields: [
            ("src.addr", .bare("10.0.0.1:4711")), ("dst.service", .text("web.shop.svc")), ("bytes_sent", .integer(11)),
        ])

    @Test("is tab-separated text with bare addresses and quoted texts")
    func plain() {
        #expect(
            String(decoding: self.line.bytes(.plain), as: UTF8.self)
                == "2025-11-25T21:00:14.000123Z\tinfo\taccess\tconnection complete\t"
                + "src.addr=10.0.0.1:4711 dst.service=\"web.shop.svc\" bytes_sent=11\n")
    }

    @Test("is a JSON object with the keys in the order of the event")
    func json() {
        #expect(
            String(decoding: self.line.bytes(.json), as: UTF8.self)
                == #"{"level":"info","time":"2025-11-25T21:00:14.000123Z","scope":"access","#
                + #""message":"connection complete","src.addr":"10.0.0.1:4711","dst.service":"web.shop.svc","#
                + #""bytes_sent":11}"# + "\n")
    }

    @Test("stays one line, whatever a peer puts into it", arguments: [LogLine.Format.plain, .json])
    func injection(format: LogLine.Format) {
        let evil = "a\nb\r\"c\"\t\u{0}\\"
        let bytes = LogLine(
            level: .warn, scope: "x", message: "m", fields: [("k", .text(evil)), ("b", .bare(evil))]
        ).bytes(format)
        #expect(bytes.filter { $0 == 0x0a }.count == 1)
        #expect(bytes.last == 0x0a)
        #expect(!bytes.contains(0x0d))
        #expect(String(decoding: bytes, as: UTF8.self).contains(#"\"c\""#))
    }

    @Test(
        "dates",
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"), (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"), (-1, "1969-12-31T23:59:59Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] as [(Int64, String)])
    func dates(seconds: Int64, text: String) { #expect(Timestamp.text(seconds: seconds) == text) }
}

@Suite("Log levels")
struct LogFilterTests {
    private struct Answer: Equatable {
        let status: Int
        let text: String
        init(_ status: Int, _ text: String) {
            self.status = status
            self.text = text
        }
    }

    @Test("a scope has the level of its longest directive, or the default")
    func scopes() throws {
        var directives = LogDirectives()
        try directives.merge("warn,proxy=debug,proxy::inbound=off")
        #expect(directives.level(of: "access") == .warn)
        #expect(directives.level(of: "proxy") == .debug)
        #expect(directives.level(of: "proxy::outbound") == .debug)
        #expect(directives.level(of: "proxy::inbound") == .off)
        #expect(directives.level(of: "proxying") == .warn)
        #expect(directives.description == "proxy=debug,proxy::inbound=off,warn")
    }

    @Test("understands both separators and both spellings")
    func spellings() throws {
        var directives = LogDirectives()
        try directives.merge("Warning, xds:DEBUG, a::b=critical")
        #expect(directives.level == .warn)
        #expect(directives.level(of: "xds") == .debug)
        #expect(directives.level(of: "a::b") == .error)
    }

    @Test("refuses what is no level and changes nothing then", arguments: ["loud", "debug,x=", "=debug", "x=y", "xds"])
    func invalid(text: String) {
        let filter = LogFilter()
        #expect(throws: InvalidLogDirective.self) { try filter.merge(text) }
        #expect(filter.directives == LogDirectives())
    }

    @Test("W14: POST /logging shows, sets, refuses and resets")
    func endpoint() async {
        let filter = LogFilter()
        let routes = [EndpointRoute.logging(filter)]
        func post(_ query: [(name: String, value: String?)], _ method: String = "POST") async -> Answer {
            let answer = await routes.answer(EndpointRequest(method: method, path: "/logging", query: query))
            return Answer(answer.status, String(decoding: answer.body, as: UTF8.self))
        }
        #expect(await post([]) == Answer(200, "current log level is info\n"))
        #expect(await post([("level", "debug")]) == Answer(200, "current log level is debug\n"))
        #expect(await post([("level", "x=trace")]) == Answer(200, "current log level is x=trace,debug\n"))
        #expect(await post([("level", "nonsense")]).status == 400)
        #expect(filter.directives.description == "x=trace,debug")
        #expect(await post([("level", "")]) == Answer(200, "current log level is x=trace,debug\n"))
        #expect(await post([("reset", nil)]) == Answer(200, "current log level is info\n"))
        #expect(await post([("reset", nil), ("level", "warn")]) == Answer(200, "current log level is warn\n"))
        #expect(await post([], "GET").status == 405)
    }
}

@Suite("The log")
struct LogWriterTests {
    @Test("W19: a full queue makes producers wait; no line is lost or torn")
    func backPressure() async {
        /// Slower than its producers.
        final class Slow: LogDestination {
            let memory = Memory()
            func write(_ bytes: [UInt8]) {
                for _ in 0..<50 { _ = Timestamp.microsecondsNow() }
                self.memory.write(bytes)
            }
        }
        let slow = Slow()
        let writer = LogWriter(slow, linesMax: 4)
        await withTaskGroup(of: Void.self) { group in
            for producer in 0..<4 {
                group.addTask { for line in 0..<250 { writer.write(Array("\(producer) \(line)\n".utf8)) } }
            }
        }
        await writer.flush()
        let lines = slow.memory.lines
        #expect(lines.count == 1000)
        #expect(Set(lines).count == 1000)
        for producer in 0..<4 {
            let own = lines.filter { $0.hasPrefix("\(producer) ") }.map { Int($0.dropFirst(2))! }
            #expect(own == own.sorted(), "lines of one producer stay in order")
        }
    }

    @Test("swift-log's loggers write the same lines, filtered by the same levels")
    func swiftLog() async throws {
        let memory = Memory()
        let log = MeshLog(destination: memory)
        var logger = log.logger("xds")
        logger[metadataKey: "b"] = "2"
        logger.info("connected", metadata: ["a": "1"])
        logger.debug("hidden")
        try log.filter.merge("xds=debug")
        logger.debug("shown")
        await log.flush()
        #expect(memory.lines.count == 2)
        #expect(memory.lines.first?.hasSuffix("\tinfo\txds\tconnected\ta=\"1\" b=\"2\"") == true)
        #expect(memory.lines.last?.hasSuffix("\tdebug\txds\tshown\tb=\"2\"") == true)
    }
}
