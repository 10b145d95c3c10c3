package import KubeAPI
package import KubeClient

/// `waypoint apply`: makes the Gateway, waits for it when asked, and then lets traffic use it.
package struct WaypointApply: Sendable {
    package let cluster: any KubeCluster
    package let waypoint: Waypoint
    package let namespace: String
    /// What gets the label that sends its traffic through the waypoint.
    package let enrolled: [Enrolment]
    /// Labels that name another waypoint are replaced.
    package let overwrites: Bool
    /// Nil: it is not waited for.
    package let wait: Duration?
    package let output: Output

    package static let fieldManager = "istioctl"
    private static let modeLabel = "istio.io/dataplane-mode"

    package init(
        cluster: any KubeCluster, waypoint: Waypoint, namespace: String, enrolled: [Enrolment], overwrites: Bool,
        wait: Duration?, output: Output
    ) {
        self.cluster = cluster
        self.waypoint = waypoint
        self.namespace = namespace
        self.enrolled = enrolled
        self.overwrites = overwrites
        self.wait = wait
        self.output = output
    }

    /// An object of the waypoint's namespace, or that namespace.
    package struct Enrolment: Hashable, Sendable {
        package let type: ResourceType
        package let name: String

        package static func namespace(_ name: String) -> Enrolment { Enrolment(type: .namespaces, name: name) }

        /// `service/cart`, with kubectl's short names.
        /// - Throws: ``CommandError``
        package init(parsing text: String) throws {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            let types: [String: ResourceType] = [
                "service": .services, "services": .services, "svc": .services, "pod": .pods, "pods": .pods, "po": .pods,
                "serviceentry": .serviceEntries, "se": .serviceEntries, "workloadentry": .workloadEntries,
                "we": .workloadEntries,
            ]
            guard parts.count == 2, !parts[1].isEmpty, let type = types[parts[0]] else {
                throw CommandError(
                    "--enroll: \"\(text)\" is not KIND/NAME with a service, pod, serviceentry or workloadentry")
            }
            self.init(type: type, name: parts[1])
        }

        private init(type: ResourceType, name: String) {
            self.type = type
            self.name = name
        }

        var words: String { "\(self.type.kind.lowercased()) \(self.name)" }
    }

    package func run() async throws {
        guard let namespace = try await self.cluster.find(.namespaces, name: self.namespace) else {
            throw CommandError(
                "namespace \"\(self.namespace)\" does not exist; make it with: kubectl create namespace \(self.namespace)"
            )
        }
        // Looked up first: a name that is wrong ends the command before anything has changed.
        var due: [Enrolment] = []
        for enrolment in self.enrolled {
            if try await self.isDue(enrolment, namespace) { due.append(enrolment) }
        }
        do {
            _ = try await self.cluster.patch(
                .gateways, namespace: self.namespace, name: self.waypoint.name, subresource: nil,
                .apply(self.waypoint.object.json, fieldManager: Self.fieldManager, force: false))
        } catch let error as StatusError where error.isNotFound {
            throw CommandError(Waypoint.noGatewayAPI)
        } catch let error as StatusError where error.code == 409 {
            throw CommandError(
                "waypoint \(self.namespace)/\(self.waypoint.name) has fields that somebody else manages: \(error)")
        }
        let key = "\(self.namespace)/\(self.waypoint.name)"
        self.output.done("waypoint \(key) applied")
        if let wait { try await self.awaitProgrammed(key, wait) }
        for enrolment in due { try await self.enrol(enrolment) }
    }

    private func awaitProgrammed(_ key: String, _ limit: Duration) async throws {
        let result = try await WaypointWait(cluster: self.cluster, limit: limit, output: self.output).run {
            [try await self.cluster.get(.gateways, namespace: self.namespace, name: self.waypoint.name)]
        }
        if let trouble = result.trouble {
            throw CommandError("waypoint \(key) was not ready within \(limit.brief): \(trouble)")
        }
        self.output.done("waypoint \(key) is ready!")
    }

    /// Whether the label is to be written; says it when it is not, and when it would do nothing.
    private func isDue(_ enrolment: Enrolment, _ namespace: KubeObject) async throws -> Bool {
        var object = namespace
        if enrolment.type.isNamespaced {
            guard
                let found = try await self.cluster.find(
                    enrolment.type, namespace: self.namespace, name: enrolment.name)
            else { throw CommandError("\(enrolment.words) does not exist in namespace \"\(self.namespace)\"") }
            object = found
        }
        if let present = object.labels[Waypoint.useLabel], !self.overwrites {
            self.output.warn(
                "\(enrolment.words) has the label \(Waypoint.useLabel): \(present) already and keeps it; "
                    + "change it with --overwrite")
            return false
        }
        if namespace.labels[Self.modeLabel] != "ambient", !enrolment.type.isNamespaced {
            self.output.warn(
                "namespace \(self.namespace) is not part of the mesh, so its pods' traffic does not reach the waypoint; add it "
                    + "with: kubectl label namespace \(self.namespace) \(Self.modeLabel)=ambient")
        }
        return true
    }

    /// Only the label is sent: what others change at the same time stays.
    private func enrol(_ enrolment: Enrolment) async throws {
        var labels: JSONValue = [Waypoint.useLabel: .string(self.waypoint.name)]
        // One that named a waypoint elsewhere would send traffic there still.
        labels[Waypoint.useNamespaceLabel] = .null
        _ = try await self.cluster.patch(
            enrolment.type, namespace: enrolment.type.isNamespaced ? self.namespace : nil, name: enrolment.name,
            subresource: nil, .merge(["metadata": ["labels": labels]]))
        self.output.done("\(enrolment.words) labeled with \"\(Waypoint.useLabel): \(self.waypoint.name)\"")
    }
}
