internal import KubeAPI
package import MeshCNI
internal import MeshLinux
internal import Synchronization

package struct CNIInstallerConfiguration: Hashable, Sendable {
    /// The plugin's executable in our image.
    package var plugin: String
    package var binaryDirectory: String
    package var configurationDirectory: String
    /// The primary file, when the operator names it.
    package var configurationName: String?
    package var isChained: Bool
    /// A file of our own that sorts first and holds the primary's plugins and ours; nil: our entry goes into the primary.
    package var ownedName: String?
    package var isGroupReadable: Bool
    package var runDirectory: String

    package init(
        plugin: String, binaryDirectory: String, configurationDirectory: String, configurationName: String? = nil,
        isChained: Bool = true, ownedName: String? = nil, isGroupReadable: Bool = false, runDirectory: String
    ) {
        self.plugin = plugin
        self.binaryDirectory = binaryDirectory
        self.configurationDirectory = configurationDirectory
        self.configurationName = configurationName
        self.isChained = isChained
        self.ownedName = ownedName
        self.isGroupReadable = isGroupReadable
        self.runDirectory = runDirectory
    }
}

/// Puts the plugin into the node's CNI chain, keeps it there, and takes it out again. Blocking calls on files; every
/// step may be repeated.
package final class CNIInstaller: Sendable {
    package enum State: Hashable, Sendable {
        case installed
        /// Nothing was wrong.
        case unchanged
        /// The main CNI has not written its configuration yet.
        case waitingForPrimary
    }

    package enum Failure: Error, CustomStringConvertible {
        case binary(any Error)
        case configuration(any Error)

        package var description: String {
            switch self {
            case .binary(let error): "cannot install the CNI plugin's executable: \(error)"
            case .configuration(let error): "cannot edit the node's CNI configuration: \(error)"
            }
        }

        /// The label of the metric `istio_cni_installs_total`.
        package var result: String {
            switch self {
            case .binary: "COPY_BINARIES_FAILURE"
            case .configuration: "CREATE_CNI_CONFIG_FAILURE"
            }
        }
    }

    private let configuration: CNIInstallerConfiguration
    private let entry: JSONValue
    /// Source and copy when they were last found equal: comparing megabytes every few seconds would be waste.
    private let compared = Mutex<[Files.Information]?>(nil)

    package init(_ configuration: CNIInstallerConfiguration, _ plugin: CNIConfiguration) {
        self.configuration = configuration
        self.entry = plugin.chainEntry
    }

    private var binaryPath: String { "\(self.configuration.binaryDirectory)/\(CNIConfiguration.pluginName)" }
    private func path(_ name: String) -> String { "\(self.configuration.configurationDirectory)/\(name)" }

    /// Brings about what is missing; called again and again, it is also the repair.
    package func reconcile() throws(Failure) -> State {
        let didCopy: Bool
        do { didCopy = try self.installBinary() } catch { throw .binary(error) }
        do {
            switch try self.installConfiguration() {
            case .unchanged: return didCopy ? .installed : .unchanged
            case let state: return state
            }
        } catch {
            throw .configuration(error)
        }
    }

    /// Copies the plugin unless the same bytes are there.
    private func installBinary() throws -> Bool {
        let present = try self.binaryInformation()
        if present.count == 2, self.compared.withLock({ $0 == present }) { return false }
        Files.removeLeftovers(of: self.binaryPath)
        let bytes = try Files.read(self.configuration.plugin, bytesMax: 256 << 20)
        if let found = try Files.information(self.binaryPath), found.byteCount == bytes.count, found.mode == 0o755,
            try Files.read(self.binaryPath, bytesMax: 256 << 20) == bytes
        {
            self.compared.withLock { $0 = present }
            return false
        }
        try Files.writeAtomically(bytes, to: self.binaryPath, mode: 0o755)
        let written = try self.binaryInformation()
        self.compared.withLock { $0 = written }
        return true
    }

    private func binaryInformation() throws -> [Files.Information] {
        try [self.configuration.plugin, self.binaryPath].compactMap { try Files.information($0) }
    }

    private struct Primary {
        let name: String
        let json: JSONValue
        let mode: UInt32
    }

    /// The first usable file in name order, ours aside; or the one that the operator named.
    private func primary() throws -> Primary? {
        let names: [String]
        if let wanted = self.configuration.configurationName {
            // A `.conf` that we made a list of is a `.conflist` now.
            names = [wanted, wanted.hasSuffix(".conf") ? wanted + "list" : wanted]
        } else {
            names = try Files.list(self.configuration.configurationDirectory)
                .filter { ($0.hasSuffix(".conf") || $0.hasSuffix(".conflist")) && $0 != self.configuration.ownedName }
        }
        for name in names {
            guard let found = try Files.information(self.path(name)), found.isRegular,
                let json = try? JSONValue(parsing: Files.read(self.path(name))), CNIChain.isValid(json),
                !CNIChain.isOurs(json)
            else { continue }
            return Primary(name: name, json: json, mode: found.mode)
        }
        return nil
    }

    private var ownMode: UInt32 { self.configuration.isGroupReadable ? 0o640 : 0o600 }

    private func installConfiguration() throws -> State {
        if !self.configuration.isChained {
            var single = self.entry
            single["cniVersion"] = "0.3.1"
            return try self.write(
                single, to: self.configuration.configurationName ?? "YYY-istio-cni.conf", mode: self.ownMode)
        }
        guard let primary = try self.primary() else { return .waitingForPrimary }
        if let owned = self.configuration.ownedName {
            // The primary stays as it is, also if an earlier run had put us into it.
            return try self.write(
                CNIChain.inserting(self.entry, into: primary.json), to: owned, mode: self.ownMode)
        }
        let list = CNIChain.inserting(self.entry, into: primary.json)
        if primary.name.hasSuffix(".conf") {
            let name = primary.name + "list"
            let state = try self.write(list, to: name, mode: primary.mode)
            try Files.remove(self.path(primary.name))
            return state
        }
        return try self.write(list, to: primary.name, mode: primary.mode)
    }

    private func write(_ json: JSONValue, to name: String, mode: UInt32) throws -> State {
        if let present = try? JSONValue(parsing: Files.read(self.path(name))), present == json { return .unchanged }
        try Files.writeAtomically(Array("\(json)\n".utf8), to: self.path(name), mode: mode)
        return .installed
    }

    /// Takes our entry out of every file, deletes files of our own, and the plugin. First the entries: a chain that names a
    /// plugin that is not there starts no pod at all.
    package func remove() throws {
        for name in try Files.list(self.configuration.configurationDirectory)
        where name.hasSuffix(".conf") || name.hasSuffix(".conflist") {
            guard let found = try Files.information(self.path(name)), found.isRegular,
                let json = try? JSONValue(parsing: Files.read(self.path(name)))
            else { continue }
            if name == self.configuration.ownedName || CNIChain.isOurs(json) {
                try Files.remove(self.path(name))
            } else if let without = CNIChain.removing(from: json) {
                try Files.writeAtomically(Array("\(without)\n".utf8), to: self.path(name), mode: found.mode)
            }
        }
        try Files.remove(self.binaryPath)
        // The reference's plugin had credentials on the node; ours has none, and none must stay.
        for name in ["istio-cni-kubeconfig", "enrolment.json"] {
            try Files.remove("\(self.configuration.runDirectory)/\(name)")
        }
    }
}
