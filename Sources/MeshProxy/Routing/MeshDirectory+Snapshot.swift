package import MeshDirectory
package import MeshIdentity

extension MeshDirectory<MeshSnapshot> {
    package init(
        nodeName: String?, settings: RoutingSettings, flows: FlowTable,
        published: @escaping @Sendable (MeshSnapshot) -> Void = { _ in },
        identitiesChanged:
            @escaping @Sendable (
                _ added: Set<WorkloadIdentity>, _ removed: Set<WorkloadIdentity>
            ) -> Void = { _, _ in },
        applied: @escaping @Sendable (_ resources: Int) -> Void = { _ in }
    ) {
        self.init(
            nodeName: nodeName,
            make: { MeshSnapshot(state: $0, settings: settings, flows: flows, answered: $1) },
            published: published, identitiesChanged: identitiesChanged, applied: applied)
    }
}
