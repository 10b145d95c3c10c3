import MeshModel
import MeshProto

/// How much a waypoint takes of one resource. Far above what the Gateway API and Istio's policies allow in one object,
/// and far below what would exhaust a process.
package enum RulesBounds {
    package static let routesMax = 20_000
    package static let rulesPerRouteMax = 1024
    package static let matchesPerRuleMax = 1024
    package static let fieldsPerMatchMax = 128
    package static let filtersMax = 64
    package static let headersPerFilterMax = 256
    package static let backendsMax = 256
    package static let policiesMax = 4096
    package static let rulesPerPolicyMax = 512
    package static let valuesMax = 4096
    /// Of any text but a key set, in bytes.
    package static let textBytesMax = 16 << 10
    package static let keySetBytesMax = 1 << 20
    /// A week: no timeout, interval or lifetime of a request is longer.
    package static let durationMicrosecondsMax: UInt64 = 7 * 24 * 3600 * 1_000_000
}

/// What became of a rules message.
package struct DecodedRules<Rules: Sendable>: Sendable {
    /// Safe to serve by, whatever `flaws` says: a gate with a part that could not be read is closed, and a route's rule
    /// with such a part answers 500.
    package var rules: Rules
    package var flaws: [String] = []
}

extension Collection {
    func bounded(_ max: Int, _ what: String) throws(Reason) -> Self {
        if self.count > max { throw Reason("\(self.count) \(what), more than \(max)") }
        return self
    }

    func converted<Value>(_ body: (Element) throws(Reason) -> Value) throws(Reason) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(self.count)
        for element in self { values.append(try body(element)) }
        return values
    }
}

func decodeText(_ text: String, _ max: Int = RulesBounds.textBytesMax) throws(Reason) -> String {
    if text.utf8.count > max { throw Reason("a text of \(text.utf8.count) bytes, more than \(max)") }
    return text
}

func decodeTexts(_ texts: [String]) throws(Reason) -> [String] {
    try texts.bounded(RulesBounds.valuesMax, "texts").converted { text throws(Reason) in try decodeText(text) }
}

func decodePort(_ number: UInt32) throws(Reason) -> UInt16 {
    guard let port = UInt16(exactly: number), port > 0 else { throw Reason("port \(number)") }
    return port
}

func decodeDuration(_ microseconds: UInt64, _ what: String) throws(Reason) -> Duration {
    guard microseconds <= RulesBounds.durationMicrosecondsMax else {
        throw Reason("\(what) of \(microseconds) µs, more than a week")
    }
    return .microseconds(Int64(microseconds))
}

extension Duration {
    /// Whole microseconds; nothing below zero or above what a receiver takes.
    var protoMicroseconds: UInt64 {
        let (seconds, attoseconds) = self.components
        if seconds < 0 || attoseconds < 0 { return 0 }
        let max = RulesBounds.durationMicrosecondsMax
        if UInt64(seconds) >= max / 1_000_000 { return max }
        return UInt64(seconds) * 1_000_000 + UInt64(attoseconds / 1_000_000_000_000)
    }
}

extension NamespacedName {
    init(decoding proto: Martlet_Waypoint_Name) throws(Reason) {
        if proto.name.isEmpty { throw Reason("a name without text") }
        self.init(namespace: try decodeText(proto.namespace), name: try decodeText(proto.name))
    }

    var rulesProto: Martlet_Waypoint_Name {
        .with {
            $0.namespace = self.namespace
            $0.name = self.name
        }
    }
}
