/// The condition `ZtunnelAccepted` of a PeerAuthentication: whether it counts, and which of its words do not.
package enum PeerAuthenticationStatus {
    /// - Parameter siblings: all objects of its namespace, itself among them.
    package static func condition(
        _ view: PeerAuthenticationView, siblings: [PeerAuthenticationView], rootNamespace: String
    ) -> StatusCondition {
        func say(_ isTrue: Bool, _ reason: String, _ message: String) -> StatusCondition {
            StatusCondition("ZtunnelAccepted", isTrue, reason: reason, message: message)
        }
        if view.selector != nil, view.namespace == rootNamespace {
            return say(
                false, "UnsupportedValue",
                "a selector means nothing in the root namespace \(rootNamespace): no workload is selected")
        }
        if view.selector == nil,
            let oldest = siblings.filter({ $0.selector == nil }).min(by: PeerAuthenticationView.isOlder),
            oldest.key != view.key
        {
            return say(
                false, "Superseded",
                "\(oldest.key) has no selector either and is older: it decides for the "
                    + (view.namespace == rootNamespace ? "mesh" : "namespace"))
        }
        var notes: [String] = []
        if !view.unreadable.isEmpty {
            notes.append(
                "unreadable: \(view.unreadable.joined(separator: ", ")); a mode that is not known is enforced as STRICT"
            )
        }
        if view.selector == nil, !view.portModes.isEmpty {
            notes.append("portLevelMtls needs a selector and is ignored without one")
        }
        if view.mode == .disable || view.portModes.values.contains(.disable) {
            notes.append("DISABLE is enforced as PERMISSIVE: peers in the mesh still use mutual TLS")
        }
        if notes.isEmpty { return say(true, "Accepted", "attached to ztunnel") }
        return say(
            view.unreadable.isEmpty, view.unreadable.isEmpty ? "UnsupportedValue" : "Invalid",
            notes.joined(separator: ". "))
    }
}
