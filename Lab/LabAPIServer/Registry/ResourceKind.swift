package import KubeAPI

/// One served kind: what discovery says about it and which general rules its objects follow.
package struct ResourceKind: Sendable {
    package var type: ResourceType
    var singular: String
    var shortNames: [String] = []
    var categories: [String] = []
    var verbs: [String] = Self.allVerbs
    var subresources: [Subresource] = []
    /// Key of the store; two API versions of one kind share it.
    var storage: String
    /// `apiVersion` of the stored form.
    var storageVersion: String
    /// `status` belongs to the `/status` subresource; main writes leave it alone.
    var hasStatus = false
    /// `metadata.generation` counts changes of the desired state.
    var hasGeneration = false
    /// A PUT must say which version it replaces.
    var requiresVersionOnUpdate = false
    /// Present for kinds defined by a CustomResourceDefinition.
    var custom: CustomVersion?

    struct Subresource: Sendable {
        var name: String
        var kind: String
        var group: String?
        var version: String?
        var verbs: [String]
    }

    static let allVerbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]

    package var isCustom: Bool { self.custom != nil }
    var group: String { self.type.group }
    /// `deployments.apps`, the form of error messages.
    var qualified: String { self.type.description }
    var listKind: String { self.custom?.listKind ?? self.type.kind + "List" }

    func has(_ verb: String) -> Bool { self.verbs.contains(verb) }
    func subresource(_ name: String) -> Subresource? { self.subresources.first { $0.name == name } }
}
