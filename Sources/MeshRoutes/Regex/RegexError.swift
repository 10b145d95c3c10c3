/// Why a text is no regular expression for us. The pattern itself is not repeated: whoever reports this knows it.
package enum RegexError: Error, Hashable, CustomStringConvertible {
    /// RE2 refuses it too.
    case malformed(String, offset: Int)
    /// RE2, or somebody else, knows it and we do not.
    case unsupported(String, offset: Int)
    case tooLarge(String)

    package var description: String {
        switch self {
        case .malformed(let what, let offset): "regular expression: \(what) at byte \(offset)"
        case .unsupported(let what, let offset): "regular expression: \(what) at byte \(offset) is not supported"
        case .tooLarge(let what): "regular expression: \(what)"
        }
    }
}
