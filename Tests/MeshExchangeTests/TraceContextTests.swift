import MeshExchange
import Testing

@Suite("The trace of a request (W3C Trace Context)")
struct TraceContextTests {
    private let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    /// Numbers one after the other.
    private struct Counting: RandomNumberGenerator {
        var number: UInt64 = 2
        mutating func next() -> UInt64 {
            defer { self.number += 2 }
            return self.number
        }
    }

    @Test("goes on under a span of ours, with the caller's decision")
    func child() throws {
        var random = Counting()
        let context = TraceContext.next(after: self.header, percent: 0, using: &random)
        #expect(context.parent == 0xb7ad_6b71_6920_3331)
        #expect(context.isSampled)
        #expect(context.header == "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01")
        let unsampled = TraceContext.next(after: String(self.header.dropLast()) + "0", percent: 100, using: &random)
        #expect(!unsampled.isSampled)
    }

    @Test("begins here when the caller says nothing, sampled by the share that is set")
    func root() {
        var random = SystemRandomNumberGenerator()
        let all = TraceContext.next(after: nil, percent: 100, using: &random)
        #expect(all.isSampled && all.parent == nil && all.span != 0)
        #expect(TraceContext(all.header) != nil)
        #expect(!TraceContext.next(after: nil, percent: 0, using: &random).isSampled)
        #expect(!TraceContext.next(after: nil, percent: .nan, using: &random).isSampled)
        let sampled = (0..<2000).count { _ in TraceContext.next(after: nil, percent: 25, using: &random).isSampled }
        // Chance would have to err by ten standard deviations.
        #expect((300..<700).contains(sampled))
    }

    @Test("of a later version counts with its beginning, and the random flag is kept")
    func versions() throws {
        let later = try #require(TraceContext("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what-comes"))
        #expect(later.header == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03")
    }

    @Test(
        "that cannot be read is ignored",
        arguments: [
            "", "00", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ])
    func malformed(header: String) { #expect(TraceContext(header) == nil) }
}

@Suite("Flags of an exchange")
struct ExchangeFlagsTests {
    @Test("are Envoy's codes with commas, in a fixed order")
    func text() {
        #expect(ExchangeFlags().text == "-")
        #expect(ExchangeFlags.noRoute.text == "NR")
        #expect(([.retriesExhausted, .noHealthyUpstream] as ExchangeFlags).text == "UH,URX")
        #expect(ExchangeFlags.denied.text == "DENY")
    }
}
