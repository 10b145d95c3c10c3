import ArgumentParser
import Foundation
import MeshAgent
import MeshCLI
import MeshControl
import MeshNode
import MeshProxy
import MeshWaypoint

/// One program, several roles: the first argument decides. A role runs until it is told to stop; everything else is
/// the user's command line.
@main
enum Martlet {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        let rest = Array(arguments.dropFirst())
        let environment = ProcessInfo.processInfo.environment
        let version = MartletVersion.current
        switch arguments.first {
        case "proxy" where AgentRole.isMeant(rest):
            await Self.run("proxy \(rest[0])") {
                try await AgentRole.run(environment: environment, arguments: rest, version: version)
            }
        case "proxy":
            await Self.run("proxy") {
                try await ProxyRole.run(environment: environment, arguments: rest, version: version)
            }
        case "control":
            await Self.run("control") {
                try await ControlRole.run(environment: environment, arguments: rest, version: version)
            }
        case "node-agent":
            await Self.run("node-agent") {
                try await NodeAgentRole.run(environment: environment, arguments: rest, version: version)
            }
        case "istio-iptables":
            await Self.run("istio-iptables") {
                print(try SidecarRulesRole.run(environment: environment, arguments: rest))
            }
        case "wait":
            await Self.run("wait") { try await WaitRole.run(arguments: rest) }
        case "waypoint" where WaypointRole.isMeant(rest, environment: environment):
            await Self.run("waypoint") { try await WaypointRole.run(environment: environment, version: version) }
        case "lab": LabHandover.run(rest)
        default: await MartletCommand.main(nil)
        }
    }

    private static func run(_ role: String, _ body: @Sendable () async throws -> Void) async {
        do {
            try await body()
        } catch {
            FileHandle.standardError.write(Data("martlet \(role): \(error)\n".utf8))
            exit(1)
        }
    }
}
