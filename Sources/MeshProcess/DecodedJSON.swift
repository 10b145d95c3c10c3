package import MeshXDS

/// A JSON value of the environment, as metadata for the control plane.
package struct DecodedJSON: Decodable {
    package let value: MetadataValue

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self.value = .null
        } else if let flag = try? container.decode(Bool.self) {
            self.value = .bool(flag)
        } else if let number = try? container.decode(Double.self) {
            self.value = .number(number)
        } else if let text = try? container.decode(String.self) {
            self.value = .string(text)
        } else if let list = try? container.decode([DecodedJSON].self) {
            self.value = .list(list.map(\.value))
        } else {
            self.value = .object(try container.decode([String: DecodedJSON].self).mapValues(\.value))
        }
    }
}
