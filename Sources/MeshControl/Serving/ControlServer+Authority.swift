import MeshCA

/// Keeps the certificate authority's key material as the cluster has it, and alive.
extension ControlServer {
    /// Key material that an operator, or another replica, replaced is taken over within a minute.
    func followKeyMaterial(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: self.options.keyMaterialInterval)
            if Task.isCancelled { return }
            await self.takeOver(store, authority, metrics, settings)
        }
    }

    private func takeOver(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        do {
            authority.offer(try await store.load(trustDomain: settings.current.trustDomain))
            metrics.show(authority.current)
        } catch {
            self.logger.error("the CA keeps its key material", metadata: ["why": "\(error)"])
        }
    }

    func renewRoot(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        let rotation = self.options.rootRotation
        guard rotation.checkInterval > .zero else { return }
        var wait = rotation.firstWait()
        while !Task.isCancelled {
            try? await Task.sleep(for: wait)
            if Task.isCancelled { return }
            wait = rotation.checkInterval
            do {
                guard try await store.renewRootIfDue(rotation) else { continue }
                self.logger.notice("the root certificate was renewed ahead of its end")
            } catch {
                self.logger.error(
                    "the root certificate cannot be renewed; trying again after \(wait)", metadata: ["why": "\(error)"])
                continue
            }
            await self.takeOver(store, authority, metrics, settings)
        }
    }
}
