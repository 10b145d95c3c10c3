import MeshHTTP
import Testing

@Suite("Settings, windows and floods")
struct HTTP2FlowTests {
    @Test("settings apply in order and say what they change for open streams")
    func settings() throws {
        var settings = HTTP2Settings()
        let change = try settings.apply(
            [
                HTTP2Setting(.initialWindowSize, 100), HTTP2Setting(.headerTableSize, 0),
                HTTP2Setting(.headerTableSize, 1_000), HTTP2Setting(.init(rawValue: 0x7777), 5),
                HTTP2Setting(.initialWindowSize, 65_000), HTTP2Setting(.maxConcurrentStreams, 200),
            ], from: .server)
        #expect(change.initialWindowDelta == 65_000 - 65_535)
        #expect(change.headerTableBytes! == (smallest: 0, last: 1_000))
        #expect(settings.maxConcurrentStreams == 200)
        #expect(settings.frameBytesMax == 16_384)
    }

    static let badSettings: [(HTTP2Setting, HTTP2ErrorCode)] = [
        (HTTP2Setting(.enablePush, 2), .protocolError), (HTTP2Setting(.enablePush, 1), .protocolError),
        (HTTP2Setting(.initialWindowSize, 0x8000_0000), .flowControlError),
        (HTTP2Setting(.maxFrameSize, 16_383), .protocolError),
        (HTTP2Setting(.maxFrameSize, 0x100_0000), .protocolError),
        (HTTP2Setting(.enableConnectProtocol, 2), .protocolError),
    ]

    @Test("a bad value from a server changes nothing", arguments: badSettings)
    func badSetting(setting: HTTP2Setting, code: HTTP2ErrorCode) {
        var settings = HTTP2Settings()
        let error = #expect(throws: HTTP2ConnectionError.badSetting(setting)) {
            _ = try settings.apply([HTTP2Setting(.maxConcurrentStreams, 1), setting], from: .server)
        }
        #expect(error?.code == code)
        #expect(settings == HTTP2Settings())
    }

    @Test("an announcement says what differs from the assumed values")
    func announcement() {
        var settings = HTTP2Settings()
        settings.enablePush = false
        settings.initialWindowBytes = 4 << 20
        settings.frameBytesMax = 1 << 20
        settings.headerListBytesMax = 16_384
        #expect(
            settings.announcement(from: .client) == [
                HTTP2Setting(.enablePush, 0), HTTP2Setting(.initialWindowSize, 4 << 20),
                HTTP2Setting(.maxFrameSize, 1 << 20), HTTP2Setting(.maxHeaderListSize, 16_384),
            ])
        #expect(HTTP2Settings().announcement(from: .server).isEmpty)
    }

    @Test("a send window may go below zero but not above 2^31-1")
    func sendWindow() throws {
        var window = FlowWindow(65_535)
        window.consume(60_000)
        try window.adjust(by: -65_535)
        #expect(window.available == -60_000)
        #expect(window.sendable == 0)
        try window.credit(70_000)
        #expect(window.sendable == 10_000)
        try window.credit(0x7fff_ffff - 10_000)
        #expect(throws: FlowWindow.Overflow.self) { try window.credit(1) }
        #expect(throws: FlowWindow.Overflow.self) { try window.adjust(by: 1) }
        #expect(window.available == 0x7fff_ffff)
    }

    @Test("a receive window is given back by halves, and never exceeded")
    func receiveWindow() throws {
        var window = ReceiveWindow(target: 1_000)
        try window.received(600)
        #expect(window.released(499) == nil)
        #expect(window.held == 101)
        #expect(window.released(1) == 500)
        #expect(window.available == 900)
        #expect(throws: ReceiveWindow.Exceeded.self) { try window.received(901) }
        try window.received(900)
        #expect(window.grow(to: 16_000) == 15_000)
        #expect(window.available == 15_000)
        #expect(window.grow(to: 16_000) == nil)
    }

    @Test(
        "a flood of each kind ends the connection; the next span starts from zero",
        arguments: HTTP2FloodGuard.Kind.allCases)
    func flood(kind: HTTP2FloodGuard.Kind) throws {
        var guarding = HTTP2FloodGuard()
        let max = HTTP2FloodGuard.limits[kind]
        let start: UInt64 = 77_000_000_000
        for _ in 0..<max { try guarding.record(kind, at: start) }
        let error = #expect(throws: HTTP2ConnectionError.flood(kind, count: max + 1, seconds: 10)) {
            try guarding.record(kind, at: start + 9_999_999_999)
        }
        #expect(error?.code == .enhanceYourCalm)
        try guarding.record(kind, at: start + 10_000_000_000)
    }
}
