public import ArgumentParser

/// The user's command line. Roles (`proxy`, `control`, `node-agent`) and `lab` are handed over by the executable
/// before this is asked.
public struct MartletCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "martlet", abstract: "A service mesh without sidecars.",
        discussion: """
            Roles, started by the mesh's own pods: martlet proxy, martlet control, martlet node-agent.
            A cluster on this machine: martlet lab create --agents 4.
            """,
        version: MartletVersion.current,
        subcommands: [
            InstallCommand.self, UninstallCommand.self, VerifyInstallCommand.self, ManifestCommand.self,
            WaypointCommand.self, ProxyConfigCommand.self, ProxyStatusCommand.self, DescribeCommand.self,
            KubeInjectCommand.self, ExperimentalCommand.self,
            VersionCommand.self, InternalCommand.self,
        ])

    public init() {}
}
