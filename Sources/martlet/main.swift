import Foundation
import MeshCLI

let arguments = Array(CommandLine.arguments.dropFirst())
switch arguments.first {
case "lab": LabHandover.run(Array(arguments.dropFirst()))
default: await MartletCommand.main(arguments)
}
