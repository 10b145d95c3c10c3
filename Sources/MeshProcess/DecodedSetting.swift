internal import Yams

/// A setting that is a text in YAML, of which JSON is a part. Nil for an empty one.
/// - Parameter name: of the variable or the file, for the error. The text itself is not in it: it may be long.
package func decodeSetting<Content: Decodable>(_ text: String, from name: String) throws(InvalidSetting) -> Content? {
    if text.allSatisfy(\.isWhitespace) { return nil }
    do {
        return try YAMLDecoder().decode(Content.self, from: text)
    } catch let error as DecodingError {
        throw InvalidSetting(name, "...", wanted: "YAML or JSON that fits: \(readable(error))")
    } catch {
        throw InvalidSetting(name, "...", wanted: "YAML or JSON: \(error)")
    }
}

/// Where in the text, and what was wrong there.
private func readable(_ error: DecodingError) -> String {
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
        readable(context.codingPath, context.debugDescription, context.underlyingError)
    case .keyNotFound(let key, let context):
        readable(context.codingPath + [key], "is missing", nil)
    @unknown default: "\(error)"
    }
}

private func readable(_ path: [any CodingKey], _ text: String, _ cause: (any Error)?) -> String {
    let place = path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
    return (place.isEmpty ? "" : "\(place): ") + text + (cause.map { ": \($0)" } ?? "")
}
