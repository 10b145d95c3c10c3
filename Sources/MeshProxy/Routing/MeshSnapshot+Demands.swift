internal import MeshDirectory
internal import MeshModel
internal import MeshTunnel

// On demand: what has to be asked for before anything is decided.

extension MeshSnapshot {
    /// Nil when the state may be asked about this address; else the key that has to be answered first. Not everything
    /// that is there under an address needs to have come with it: an endpoint comes with its service, without the
    /// service whose address it may share. So each address is demanded, also when something is known there.
    func unanswered(_ address: NetworkAddress) -> String? {
        self.settings.demand == nil || address.address.isLoopback ? nil : self.unanswered(key: address.description)
    }

    func unanswered(_ gateway: GatewayAddress) -> String? {
        switch gateway.destination {
        case .address(let address): self.unanswered(address)
        case .hostname(let name): self.unanswered(name)
        }
    }

    func unanswered(_ service: NamespacedName) -> String? {
        self.settings.demand == nil ? nil : self.unanswered(key: service.description)
    }

    private func unanswered(key: String) -> String? { self.answered.contains(key) ? nil : key }

    /// Asks the control plane; whoever asked us waits for the next snapshot.
    func demand(_ key: String) -> RefusalReason {
        self.settings.demand?(key)
        return RefusalReason(
            .connect,
            "the control plane has not said yet what \(key) is (XDS_ON_DEMAND); is it connected?",
            kind: .unansweredDemand)
    }
}
