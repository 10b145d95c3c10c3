/// Why a header block could not be decoded. The compression state is lost, so every one ends the connection
/// (RFC 7541 section 2, RFC 9113 section 4.3).
package enum HPACKError: Error, Hashable, Sendable, CustomStringConvertible {
    case truncated
    /// An integer above 2^28, or one written with more octets than that needs.
    case integerTooLarge
    /// 0, or past the end of both tables.
    case unknownIndex(Int)
    /// A Huffman string with EOS inside, or padding that is too long or not all ones.
    case badHuffman
    /// A table size update above what we allowed.
    case tableTooLarge(Int, bytesMax: Int)
    /// A table size update after the first field of a block.
    case lateTableSizeUpdate
    /// We lowered the table limit and the peer did not confirm it at the start of its next block.
    case missingTableSizeUpdate
    /// The block unfolds to several times the allowed list: a decompression bomb.
    case listFarTooLarge(bytesMax: Int)

    package var description: String {
        switch self {
        case .truncated: "the header block ends inside a field"
        case .integerTooLarge: "the header block has an integer out of range"
        case .unknownIndex(let index): "the header block refers to entry \(index), which does not exist"
        case .badHuffman: "the header block has a bad Huffman code"
        case .tableTooLarge(let bytes, let max):
            "the peer wants a header table of \(bytes) octets, we allow \(max)"
        case .lateTableSizeUpdate: "the header block resizes the table after its first field"
        case .missingTableSizeUpdate: "the peer did not confirm our smaller header table"
        case .listFarTooLarge(let max):
            "the header block unfolds to far more than the \(max) octets we allow; is it a decompression bomb?"
        }
    }
}
