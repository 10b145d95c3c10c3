// Reading what people write: a field that nobody knows, and a word that means nothing, are errors.

private struct AnyKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

extension Decoder {
    /// The fields of a mapping, all of which have to be in `keys`.
    func strictContainer<Key: CodingKey & CaseIterable>(_ keys: Key.Type) throws -> KeyedDecodingContainer<Key> {
        let known = Set(Key.allCases.map(\.stringValue))
        if let unknown = try self.container(keyedBy: AnyKey.self).allKeys.first(where: {
            !known.contains($0.stringValue)
        }) {
            throw DecodingError.dataCorrupted(
                .init(
                    codingPath: self.codingPath,
                    debugDescription:
                        "unknown field \(unknown.stringValue); wanted \(known.sorted().joined(separator: ", "))"))
        }
        return try self.container(keyedBy: keys)
    }
}

extension KeyedDecodingContainer {
    func text(_ key: Key) throws -> String? { try self.decodeIfPresent(String.self, forKey: key) }

    /// A text that means a value.
    func value<Value>(_ key: Key, _ wanted: String, _ read: (String) -> Value?) throws -> Value? {
        guard let text = try self.text(key) else { return nil }
        return try self.read(text, key, wanted, read)
    }

    /// A list of such texts; none when it is left out.
    func values<Value>(_ key: Key, _ wanted: String, _ read: (String) -> Value?) throws -> [Value] {
        try (self.decodeIfPresent([String].self, forKey: key) ?? []).map { try self.read($0, key, wanted, read) }
    }

    /// One of these words, whatever their case.
    func word<Value>(_ key: Key, _ words: KeyValuePairs<String, Value>) throws -> Value? {
        try self.value(key, words.map(\.key).joined(separator: ", ")) { text in
            words.first { $0.key.lowercased() == text.lowercased() }?.value
        }
    }

    private func read<Value>(
        _ text: String, _ key: Key, _ wanted: String, _ read: (String) -> Value?
    ) throws -> Value {
        guard let value = read(text) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self, debugDescription: "\"\(text)\"; wanted \(wanted)")
        }
        return value
    }
}
