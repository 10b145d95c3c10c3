/// What is said about one listener of a waypoint's Gateway.
package struct ListenerReport: Hashable, Sendable {
    package var name: String
    package var conditions: [StatusCondition]
    package var isValid: Bool

    /// The only listener that a waypoint has.
    static func isTunnel(_ listener: GatewayView.Listener) -> Bool {
        listener.protocolName == "HBONE" && listener.port == WaypointObjects.hbonePort
    }

    /// - Parameter tunnel: how the proxies take connections from the node proxy, when not by HBONE ("sandwich").
    static func all(_ gateway: GatewayView, tunnel: ApplicationTunnelPort?) -> [ListenerReport] {
        var taken: Set<String> = []
        return gateway.listeners.map { listener in
            let place = "\(listener.port)/\(listener.hostname ?? "")"
            let isFirst = taken.insert(place).inserted
            return ListenerReport(listener, tunnel: tunnel, isConflicted: !isFirst)
        }
    }

    private init(_ listener: GatewayView.Listener, tunnel: ApplicationTunnelPort?, isConflicted: Bool) {
        self.name = listener.name
        var accepted = Self.good("Accepted")
        var conflicted = StatusCondition("Conflicted", false, reason: "NoConflicts", message: Self.noErrors)
        var resolved = Self.good("ResolvedRefs")
        if !Self.isTunnel(listener), tunnel?.takes(listener) != true {
            let hint =
                listener.protocolName != "HBONE" && listener.protocolName.uppercased() == "HBONE"
                ? "; write the protocol in upper case: HBONE" : ""
            accepted = StatusCondition(
                "Accepted", false, reason: "UnsupportedProtocol",
                message: "expected a single listener on port \(WaypointObjects.hbonePort) with protocol \"HBONE\", got "
                    + "\(listener.port) and \"\(listener.protocolName)\"" + hint)
        } else if isConflicted {
            let message = "another listener above it has port \(listener.port) already"
            accepted = StatusCondition("Accepted", false, reason: "PortUnavailable", message: message)
            conflicted = StatusCondition("Conflicted", true, reason: "HostnameConflict", message: message)
        }
        if !listener.kinds.isEmpty {
            resolved = StatusCondition(
                "ResolvedRefs", false, reason: "InvalidRouteKinds",
                message: "routes attach to the services behind a waypoint, not to its listener: "
                    + listener.kinds.joined(separator: ", "))
        }
        self.isValid = accepted.isTrue
        self.conditions = [accepted, conflicted, resolved]
    }

    static let noErrors = "No errors found"

    private static func good(_ type: String) -> StatusCondition {
        StatusCondition(type, true, reason: type, message: Self.noErrors)
    }

    /// A listener is programmed when its Gateway is.
    mutating func settle(_ programmed: StatusCondition) {
        let own =
            self.isValid
            ? StatusCondition(
                "Programmed", programmed.isTrue, reason: programmed.reason,
                message: programmed.isTrue ? Self.noErrors : programmed.message)
            : StatusCondition("Programmed", false, reason: "Invalid", message: "the listener is not accepted")
        self.conditions.append(own)
    }
}

/// Which listener of a Gateway stands for its inbound binding.
struct ApplicationTunnelPort: Hashable, Sendable {
    /// Nil: whichever has the protocol `istio.io/PROXY`.
    let port: UInt16?

    func takes(_ listener: GatewayView.Listener) -> Bool {
        listener.protocolName == "istio.io/PROXY" || self.port.map { Int64($0) == listener.port } ?? false
    }
}
