/// A ``MigrationPlan`` for people.
package enum MigrationPage {
    package static func print(_ plan: MigrationPlan, _ output: Output) {
        if plan.namespaces.isEmpty { output.line("No namespace has sidecars: there is nothing to move.") }
        for (number, namespace) in plan.namespaces.enumerated() {
            if number > 0 { output.line("") }
            self.print(namespace, output)
        }
    }

    private static func print(_ namespace: NamespaceMigration, _ output: Output) {
        switch namespace.state {
        case .sidecar: output.line("Namespace \(namespace.name): from sidecars to the node proxy")
        case .ambient:
            output.line(
                "Namespace \(namespace.name): the node proxy takes its traffic already, and no pod has a sidecar")
            return
        case .outside: output.line("Namespace \(namespace.name): not in the mesh; as if it were to join")
        }
        for (key, value) in namespace.labelsRemoved.sorted(by: { $0.key < $1.key }) {
            output.line("  - label \(key)=\(value)")
        }
        for (key, value) in namespace.labelsSet.sorted(by: { $0.key < $1.key }) {
            output.line("  + label \(key)=\(value)")
        }
        if let waypoint = namespace.waypoint {
            let state = !waypoint.exists ? "to be made" : waypoint.isUsed ? "there, and used" : "there, but not used"
            output.line(
                "  Waypoint \(waypoint.namespace)/\(waypoint.name) (\(state)), needed by: "
                    + waypoint.reasons.joined(separator: ", "))
        } else {
            output.line("  Waypoint: not needed")
        }
        if !namespace.findings.isEmpty {
            output.line("")
            var table = Table(["  VERDICT", "OBJECT", "WHAT BECOMES OF IT"], gap: 3)
            for finding in namespace.findings {
                table.add(["  \(finding.verdict.rawValue)", "\(finding.kind) \(finding.key)", self.words(finding)])
            }
            table.print(output)
        }
        output.line("")
        for restart in namespace.restarts {
            output.line("  Restart \(restart.workload): \(self.count(restart.pods, "pod")) with a sidecar")
        }
        if namespace.restarts.isEmpty { output.line("  No pod has to be restarted") }
        let byHand = namespace.findings.count(where: { $0.verdict == .edit || $0.verdict == .lost })
        output.line("")
        output.line(
            byHand == 0
                ? "  Nothing has to be edited. In this order:"
                : "  Look after \(self.count(byHand, "object")) first (edit, lost). Then, in this order:")
        for command in namespace.commands { output.line("    \(command)") }
    }

    private static func words(_ finding: MigrationFinding) -> String {
        if finding.targets.isEmpty { return finding.text }
        let targets = finding.targets.map { target in
            "\(target.kind) \(target.name)" + (target.group.isEmpty ? "" : " (\(target.group))")
        }
        return "\(finding.text); targetRefs: \(targets.joined(separator: ", "))"
    }

    private static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
}
