/// A parser of outside bytes, with what must hold for every input. A broken promise ends the process: that is how a
/// fuzzer learns of it.
package struct FuzzTarget: Sendable {
    package let name: String
    /// Pieces that inputs of this kind are made of; mutations insert them.
    package let tokens: [[UInt8]]
    package let run: @Sendable ([UInt8]) -> Void

    init(_ name: String, tokens: [String] = [], bytes: [[UInt8]] = [], _ run: @escaping @Sendable ([UInt8]) -> Void) {
        self.name = name
        self.tokens = tokens.map { Array($0.utf8) } + bytes
        self.run = run
    }

    /// A new parser of outside bytes has its place here. Drivers of parsers that the tree does not have yet are added
    /// with them.
    package static let all: [FuzzTarget] = http + http1 + text + messages + applications + security + requests

    package static func named(_ name: String) -> FuzzTarget? { self.all.first { $0.name == name } }
}

/// Not `precondition`: its text does not survive an optimised build.
func promise(_ isKept: Bool, _ text: @autoclosure () -> String) {
    if !isKept { fatalError(text()) }
}
