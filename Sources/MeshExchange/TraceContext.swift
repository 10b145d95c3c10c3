/// The place of one exchange in a distributed trace: W3C Trace Context, levels 1 and 2.
///
/// Somebody who reports no spans leaves `traceparent` as it is; who does, puts its own span between the caller's and
/// the callee's. `tracestate` is passed on untouched: we have nothing to say in it.
package struct TraceContext: Hashable, Sendable {
    /// Together the trace's id; never both zero.
    package var traceHigh, traceLow: UInt64
    /// Of our own span; never zero.
    package var span: UInt64
    /// The caller's span; nil: the trace begins here.
    package var parent: UInt64?
    package var isSampled: Bool
    /// The other flags of the caller (level 2 has "random"), without the sampled one.
    package var otherFlags: UInt8 = 0

    package init(traceHigh: UInt64, traceLow: UInt64, span: UInt64, parent: UInt64? = nil, isSampled: Bool) {
        self.traceHigh = traceHigh
        self.traceLow = traceLow
        self.span = span
        self.parent = parent
        self.isSampled = isSampled
    }

    /// A span of ours under the caller's, whose decision about sampling holds; a new trace when the caller says nothing,
    /// or nothing that can be read (section 4.1: such a header is ignored).
    /// - Parameters:
    ///   - header: the only `traceparent` of the request; nil when there is none, or more than one.
    ///   - percent: of the traces that begin here, how many are sampled.
    package static func next(
        after header: String?, percent: Double, using random: inout some RandomNumberGenerator
    ) -> TraceContext {
        if var context = header.flatMap({ TraceContext($0) }) {
            context.parent = context.span
            context.span = random.next() | 1
            return context
        }
        // In steps of a hundredth of a percent; a share that is no number is none.
        let isSampled = percent > 0 && Double(random.next(upperBound: UInt64(10_000))) < percent * 100
        return TraceContext(
            traceHigh: random.next(), traceLow: random.next() | 1, span: random.next() | 1, isSampled: isSampled)
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`, lower case; of a later version the same beginning counts (section 3.2).
    package init?(_ header: String) {
        let bytes = Array(header.utf8)
        guard bytes.count >= 55, bytes[2] == Self.dash, bytes[35] == Self.dash, bytes[52] == Self.dash,
            let version = Self.number(bytes[0..<2]), version != 0xff,
            version == 0 ? bytes.count == 55 : bytes.count == 55 || bytes[55] == Self.dash,
            let high = Self.number(bytes[3..<19]), let low = Self.number(bytes[19..<35]), high | low != 0,
            let span = Self.number(bytes[36..<52]), span != 0, let flags = Self.number(bytes[53..<55])
        else { return nil }
        self.init(traceHigh: high, traceLow: low, span: span, isSampled: flags & 1 == 1)
        self.otherFlags = UInt8(flags) & 0xfe
    }

    /// For the endpoint: our span is its parent.
    package var header: String {
        var text: [UInt8] = [0x30, 0x30, Self.dash]
        text.reserveCapacity(55)
        Self.append(self.traceHigh, digits: 16, to: &text)
        Self.append(self.traceLow, digits: 16, to: &text)
        text.append(Self.dash)
        Self.append(self.span, digits: 16, to: &text)
        text.append(Self.dash)
        // Version 00 defines one flag; the one of level 2 may go with it.
        Self.append(UInt64(self.otherFlags & 2) | (self.isSampled ? 1 : 0), digits: 2, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    private static let dash = UInt8(ascii: "-")

    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: number = number << 4 | UInt64(digit - 0x30)
            case 0x61...0x66: number = number << 4 | UInt64(digit - 0x57)
            default: return nil
            }
        }
        return number
    }

    private static func append(_ number: UInt64, digits: Int, to text: inout [UInt8]) {
        for place in (0..<digits).reversed() {
            let digit = UInt8(number >> UInt64(4 * place) & 15)
            text.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
        }
    }
}
