import ArgumentParser
import Foundation
import MeshCLI

/// One program, several roles: the first argument decides. A role runs until it is told to stop; everything else is
/// the user's command line.
@main
enum Martlet {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        switch arguments.first {
        case "lab": LabHandover.run(Array(arguments.dropFirst()))
        default: await MartletCommand.main(nil)
        }
    }
}
