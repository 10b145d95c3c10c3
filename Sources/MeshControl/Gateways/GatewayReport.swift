import Foundation
import KubeAPI

/// All that the status of a Gateway or GatewayClass says, and about which generation.
package struct GatewayReport: Hashable, Sendable {
    package var generation: Int64
    package var conditions: [StatusCondition]
    /// Nil: none of our business (a class has none).
    package var addresses: [GatewayView.Address]?
    package var listeners: [ListenerReport]?
    /// Of a class.
    package var features: [String]?

    package init(generation: Int64, _ conditions: [StatusCondition]) {
        self.generation = generation
        self.conditions = conditions
    }

    package func condition(_ type: String) -> StatusCondition? { self.conditions.first { $0.type == type } }

    /// The status as the API wants it; a condition's `lastTransitionTime` changes with its status word only.
    func json(over stored: JSONValue) -> JSONValue {
        var json: JSONValue = ["conditions": .array(self.json(self.conditions, over: stored["conditions"]))]
        if let addresses {
            json["addresses"] = .array(addresses.map { ["type": .string($0.type), "value": .string($0.value)] })
        }
        if let listeners {
            let before = stored["listeners"]?.array ?? []
            json["listeners"] = .array(
                listeners.map { listener in
                    let old = before.first { $0["name"]?.string == listener.name }
                    return [
                        "name": .string(listener.name), "attachedRoutes": 0, "supportedKinds": [],
                        "conditions": .array(self.json(listener.conditions, over: old?["conditions"])),
                    ]
                })
        }
        if let features { json["supportedFeatures"] = .array(features.map { ["name": .string($0)] }) }
        return json
    }

    private func json(_ conditions: [StatusCondition], over stored: JSONValue?) -> [JSONValue] {
        conditions.map { condition in
            let before = stored?.array?.first { $0["type"]?.string == condition.type }
            let word = condition.isTrue ? "True" : "False"
            let isSame = before?["status"]?.string == word
            return [
                "type": .string(condition.type), "status": .string(word), "reason": .string(condition.reason),
                "message": .string(condition.message), "observedGeneration": .int(self.generation),
                "lastTransitionTime": (isSame ? before?["lastTransitionTime"] : nil)
                    ?? .string(Date().formatted(.iso8601)),
            ]
        }
    }
}

/// Decides what a Gateway's status says: what is really so, also when it stops being so.
struct GatewayJudgement {
    /// The Service in front of the proxies as it is in the cluster.
    struct Front: Hashable, Sendable {
        /// What the Gateway's address is: `<name>.<namespace>.svc.<domain>`.
        var hostname: String
        var key: String
        /// Nil: there is no such Service.
        var addresses: [String]?
        var readyEndpoints: Int
    }

    let gateway: GatewayView
    /// Empty when the names that the Gateway gives are no Services of this cluster.
    let fronts: [Front]
    let tunnel: ApplicationTunnelPort?
    /// Why nothing is deployed although it should be.
    let parameters: InvalidParameters?
    /// What the API server said about our last attempt.
    let trouble: String?

    func waypoint() -> GatewayReport {
        var listeners = ListenerReport.all(self.gateway, tunnel: self.tunnel)
        let accepted = self.accepted(listeners)
        let programmed = self.programmed(accepted)
        for index in listeners.indices { listeners[index].settle(programmed) }
        var report = GatewayReport(
            generation: self.gateway.generation,
            [
                accepted, programmed,
                StatusCondition("ResolvedRefs", true, reason: "ResolvedRefs", message: ListenerReport.noErrors),
            ])
        report.listeners = listeners
        report.addresses = self.addresses
        return report
    }

    func remote() -> GatewayReport {
        let message = "this Gateway is remote; nothing is programmed for it here"
        var report = GatewayReport(
            generation: self.gateway.generation,
            [
                StatusCondition("Accepted", true, reason: "Accepted", message: "Resource accepted"),
                StatusCondition("Programmed", true, reason: "Programmed", message: message),
            ])
        report.addresses = self.gateway.specAddresses
        return report
    }

    private func accepted(_ listeners: [ListenerReport]) -> StatusCondition {
        func refused(_ reason: String, _ message: String) -> StatusCondition {
            StatusCondition("Accepted", false, reason: reason, message: message)
        }
        if self.gateway.annotations[Names.serviceType] != nil {
            return refused(
                "DeprecatedField",
                "the annotation \(Names.serviceType) is not honoured; change the Service by spec.infrastructure."
                    + "parametersRef, key service")
        }
        if let parameters { return refused("InvalidParameters", parameters.description) }
        if !GatewayPlan.isManaged(self.gateway), self.gateway.specAddresses.contains(where: { !$0.isHostname }) {
            return refused(
                "UnsupportedAddress", "of several addresses, or beside a host name, only host names of Services count")
        }
        let invalid = listeners.filter { !$0.isValid }.map(\.name)
        if invalid.count == listeners.count {
            return refused(
                "ListenersNotValid",
                "no listener is valid: a waypoint has one, on port \(WaypointObjects.hbonePort) with protocol \"HBONE\""
            )
        }
        return invalid.isEmpty
            ? StatusCondition("Accepted", true, reason: "Accepted", message: "Resource accepted")
            : StatusCondition(
                "Accepted", true, reason: "ListenersNotValid",
                message: "listeners that are not used: \(invalid.joined(separator: ", "))")
    }

    private func programmed(_ accepted: StatusCondition) -> StatusCondition {
        func not(_ reason: String, _ message: String) -> StatusCondition {
            StatusCondition("Programmed", false, reason: reason, message: message)
        }
        guard accepted.isTrue else { return not("Invalid", "the Gateway is not accepted: \(accepted.message)") }
        if let trouble { return not("Pending", trouble) }
        let wanted = GatewayPlan.isManaged(self.gateway) ? self.gateway.specAddresses.map(\.value) : []
        var missing: [String] = []
        var usable: [Front] = []
        for front in self.fronts {
            guard let addresses = front.addresses else {
                missing.append("Service \(front.key) does not exist")
                continue
            }
            if addresses.isEmpty {
                missing.append("Service \(front.key) has no cluster address")
            } else if let other = wanted.first(where: { !addresses.contains($0) }) {
                return not("AddressNotUsable", "Service \(front.key) has not got the address \(other)")
            } else {
                usable.append(front)
            }
        }
        guard !usable.isEmpty else {
            return not(
                "AddressNotAssigned",
                missing.isEmpty ? "no address is a Service of this cluster" : missing.joined(separator: "; "))
        }
        guard usable.contains(where: { $0.readyEndpoints > 0 }) else {
            return not(
                "Pending",
                "no pod behind Service \(usable.map(\.key).joined(separator: ", ")) is ready; connections to what stands "
                    + "behind this waypoint are refused until one is")
        }
        let list = usable.map { "\($0.hostname):\(WaypointObjects.hbonePort)" }.joined(separator: " and ")
        return StatusCondition(
            "Programmed", true, reason: "Programmed",
            message: "Resource programmed, assigned to service(s) \(list)")
    }

    /// Those of Services that exist: an address is there before anybody answers at it, and gone with its Service.
    private var addresses: [GatewayView.Address] {
        let wanted = self.gateway.annotations[Names.addressType]
        var list: [GatewayView.Address] = []
        for front in self.fronts {
            guard let addresses = front.addresses, !addresses.isEmpty else { continue }
            if wanted != "Hostname" { list += addresses.map { .init(type: "IPAddress", value: $0) } }
            if wanted != "IPAddress" { list.append(.init(type: "Hostname", value: front.hostname)) }
        }
        // The API takes no more.
        return Array(list.prefix(16))
    }
}
