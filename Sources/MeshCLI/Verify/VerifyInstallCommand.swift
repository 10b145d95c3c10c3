import ArgumentParser
import KubeAPI
import KubeClient

struct VerifyInstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify-install",
        abstract: "Check every object of the installation, then prove one tunnelled connection to each node.")

    @OptionGroup var global: GlobalOptions
    @OptionGroup var input: ValueOptions
    @Flag(help: "Only compare objects; start no test pods.") var skipTraffic = false
    @Option(help: "How long the traffic test may take.") var timeout = "60s"

    func run() async throws {
        let terminal = Terminal()
        guard let limit = InstallCommand.duration(self.timeout) else {
            throw ValidationError("--timeout: \"\(self.timeout)\" is no duration like 60s")
        }
        let values = try self.input.values(terminal)
        try await self.global.withCluster { cluster in
            let missing = try await self.check(cluster, values)
            guard missing == 0 else {
                throw CommandError(
                    "\(missing) of the installation's objects are missing or not ready; run: martlet install")
            }
            if !self.skipTraffic {
                try await TrafficProof(
                    cluster: cluster, image: values.image, pullPolicy: values.pullPolicy,
                    systemNamespace: values.namespace, limit: limit
                ).run()
            }
            print("✔ Martlet is installed and verified successfully")
        }
    }

    /// Prints a line per object. - Returns: how many are missing or not ready.
    private func check(_ cluster: any KubeCluster, _ values: InstallValues) async throws -> Int {
        var counts: [String: Int] = [:]
        var bad = 0
        for object in try Components.render(values).flatMap(\.objects) {
            guard let type = Components.type(of: object) else { continue }
            let title = "\(object.kind): \(object.key)"
            let namespace = type.isNamespaced ? object.namespace : nil
            guard let live = try await cluster.find(type, namespace: namespace, name: object.name) else {
                print("✘ \(title) is missing")
                bad += 1
                continue
            }
            if case .waiting(let reason) = Readiness.of(live) {
                print("✘ \(title) is not ready: \(reason)")
                bad += 1
                continue
            }
            print("✔ \(title) checked successfully")
            counts[object.kind, default: 0] += 1
        }
        print(
            "Checked \(counts["CustomResourceDefinition"] ?? 0) custom resource definitions, "
                + "\(counts["Deployment"] ?? 0) deployments, \(counts["DaemonSet"] ?? 0) daemon sets")
        return bad
    }
}
