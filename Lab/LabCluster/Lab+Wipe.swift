internal import Foundation
internal import LabNode

extension Lab {
    /// A node has as long to end; its pods die with it.
    private static let endWithin = Duration.seconds(5)

    /// Ends all processes of a cluster and removes what they leave on the machine. Keeps its files.
    func halt(_ spec: LabSpec) async {
        await self.endProcesses(spec.name)
        for node in spec.nodes { await NodeRemains(self.nodeConfiguration(node, of: spec)).remove() }
        LabBridge.remove(spec.name)
        try? FileManager.default.removeItem(atPath: self.paths.run(spec.name))
    }

    /// Removes a cluster of any state, by name: processes, links, mounts, control groups, files.
    func wipe(_ name: String) async {
        let spec = (try? self.paths.load(name)) ?? nil
        await self.endProcesses(name)
        if let spec {
            for node in spec.nodes { await NodeRemains(self.nodeConfiguration(node, of: spec)).remove() }
        }
        LabBridge.remove(name)
        self.unmount(below: [self.paths.state(name), self.paths.run(name)])
        for directory in [self.paths.run(name), self.paths.state(name)] {
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    private func endProcesses(_ name: String) async {
        var processes: Set<ProcessIdentity> = []
        if let server = ProcessIdentity.read(self.paths.serverPID(name)) { processes.insert(server) }
        processes.formUnion(ProcessIdentity.started(role: "server", with: self.paths.specification(name)))
        let nodes = "\(self.paths.state(name))/nodes"
        // By the files there are, not by the specification: it may be lost.
        let configurations = ((try? FileManager.default.contentsOfDirectory(atPath: nodes)) ?? [])
            .filter { $0.hasSuffix(".json") }
        for configuration in configurations {
            let node = String(configuration.dropLast(".json".count))
            if let keeper = ProcessIdentity.read(self.paths.keeperPID(name, node)) { processes.insert(keeper) }
            // The keeper and the node's pid 1, whose host pid this finds, too.
            processes.formUnion(ProcessIdentity.started(role: "node", with: "\(nodes)/\(configuration)"))
        }
        await withDiscardingTaskGroup { group in
            for process in processes { group.addTask { await process.end(within: Self.endWithin) } }
        }
    }

    /// Unmounts what a killed process left mounted below the directories, innermost first.
    private func unmount(below directories: [String]) {
        let mounts = (Files.read("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line -> String? in
            let fields = line.split(separator: " ")
            return fields.count > 4 ? String(fields[4]) : nil
        }
        let ours = mounts.filter { mount in directories.contains { mount == $0 || mount.hasPrefix("\($0)/") } }
        for mount in ours.sorted(by: { $0.utf8.count > $1.utf8.count }) {
            _ = try? Command.run(["umount", "--lazy", mount])
        }
    }
}
