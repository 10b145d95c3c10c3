import Foundation
package import KubeAPI

extension JSONValue {
    /// For people: an indented tree with sorted members.
    package var pretty: String {
        get throws {
            let tree = try JSONSerialization.jsonObject(with: Data(self.encoded), options: .fragmentsAllowed)
            let data = try JSONSerialization.data(
                withJSONObject: tree,
                options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes, .fragmentsAllowed])
            return String(decoding: data, as: UTF8.self)
        }
    }
}
