internal import MeshIdentity
internal import MeshModel
package import MeshTunnel

extension MeshSnapshot {
    package func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        var random = Draws()
        return self.route(question, book: question.endpoints?.value, using: &random)
    }

    /// The decision tree of the outbound path; the first match wins. See ``OutboundRoute``.
    package func route(
        _ question: OutboundQuestion, book: EndpointBook? = nil, using random: inout some RandomNumberGenerator
    ) -> OutboundAnswer {
        let destination = question.destination
        if destination.address.isLoopback, self.settings.ownPorts.contains(destination.port) {
            return .refuse(
                RefusalReason(
                    .connect,
                    "attempted recursive call to ourselves: \(destination) is one of the proxy's own ports",
                    kind: .selfCall),
                labels: nil)
        }
        guard let source = self.local(question.pod) else { return .wait(Self.unknownPod(question.pod)) }
        let route = OutboundRoute(snapshot: self, question: question, source: source, book: book)
        do throws(NoRoute) {
            return try route.decide(using: &random)
        } catch {
            if case .needsAddresses(let host) = error { return .resolve(host: host) }
            if case .needsAnswer(let key) = error { return .wait(self.demand(key)) }
            return .refuse(RefusalReason(.connect, "\(error)", kind: error.kind), labels: nil)
        }
    }
}
