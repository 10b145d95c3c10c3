internal import Crypto
internal import Foundation
internal import KubeAPI

/// OpenAPI documents: just enough that clients trust the server's own validation (`fieldValidation`) and that
/// `kubectl explain` has something to show.
enum OpenAPI {
    /// An empty v2 document in protobuf: clients then skip their own validation.
    static let emptyV2 = APIResponse(
        status: 200, contentType: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", [])

    /// One group version's document, encoded once.
    struct Document: Sendable {
        let bytes: [UInt8]
        /// Clients cache by it for ever, so it changes with the content.
        let hash: String

        init(_ kinds: [ResourceKind], path: String) {
            self.bytes = OpenAPI.document(kinds, title: path).encoded
            self.hash = SHA256.hash(data: Data(self.bytes)).prefix(16).map { String($0, radix: 16) }.joined()
        }
    }

    /// The documents of built-in groups, by path. They never change.
    private static let builtin: [String: Document] = documents(Registry.View(BuiltinKinds.all)) { _ in true }

    /// All documents of a view.
    static func documents(_ view: Registry.View) -> [String: Document] {
        self.builtin.merging(self.documents(view) { $0.contains(where: \.isCustom) }) { $1 }
    }

    private static func documents(
        _ view: Registry.View, where isWanted: ([ResourceKind]) -> Bool
    ) -> [String: Document] {
        var documents: [String: Document] = [:]
        for group in view.groups {
            for version in group.versions where isWanted(version.kinds) {
                let path = self.path(group.name, version.version)
                documents[path] = Document(version.kinds, path: path)
            }
        }
        return documents
    }

    /// `/openapi/v3`: where each document is.
    static func index(_ documents: [String: Document]) -> JSONValue {
        [
            "paths": .object(
                Dictionary(
                    uniqueKeysWithValues: documents.map { path, document in
                        (path, ["serverRelativeURL": .string("/openapi/v3/\(path)?hash=\(document.hash.uppercased())")])
                    }))
        ]
    }

    private static func path(_ group: String, _ version: String) -> String {
        group.isEmpty ? "api/\(version)" : "apis/\(group)/\(version)"
    }

    fileprivate static func document(_ kinds: [ResourceKind], title: String) -> JSONValue {
        var paths: [String: JSONValue] = [:]
        var schemas: [String: JSONValue] = [:]
        for kind in kinds {
            let gvk: JSONValue = [
                "group": .string(kind.group), "version": .string(kind.type.version), "kind": .string(kind.type.kind),
            ]
            let name = self.schemaName(kind)
            schemas[name] = self.schema(kind, gvk, &schemas)
            guard kind.has("patch") else { continue }
            let parameters: JSONValue = ["dryRun", "fieldManager", "fieldValidation", "force"].reduce([]) {
                list, name in
                .array(
                    (list.array ?? []) + [
                        [
                            "name": .string(name), "in": "query",
                            "schema": ["type": name == "force" ? "boolean" : "string"],
                        ]
                    ])
            }
            paths[kind.type.path(namespace: "{namespace}", name: "{name}")] = [
                "patch": ["x-kubernetes-group-version-kind": gvk, "parameters": parameters, "responses": [:]],
                "get": ["x-kubernetes-group-version-kind": gvk, "responses": [:]],
            ]
        }
        schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] = self.objectMeta
        return [
            "openapi": "3.0.0", "info": ["title": .string(title), "version": "v1.37.0"], "paths": .object(paths),
            "components": ["schemas": .object(schemas)],
        ]
    }

    private static func schemaName(_ kind: ResourceKind) -> String {
        let group = kind.group.isEmpty ? "core" : kind.group
        return group.split(separator: ".").reversed().joined(separator: ".") + ".\(kind.type.version).\(kind.type.kind)"
    }

    private static func schema(
        _ kind: ResourceKind, _ gvk: JSONValue, _ schemas: inout [String: JSONValue]
    ) -> JSONValue {
        var schema: JSONValue
        if let custom = kind.custom {
            schema = custom.schema.source
        } else {
            schema =
                ProtobufSchema.openAPI(kind, into: &schemas) ?? [
                    "type": "object",
                    "properties": ["spec": ["type": "object"], "status": ["type": "object"]],
                ]
        }
        schema.set(
            ["properties", "apiVersion"],
            to: ["type": "string", "description": "The version of the schema this object is written in."])
        schema.set(["properties", "kind"], to: ["type": "string", "description": "The kind of this object."])
        schema.set(
            ["properties", "metadata"],
            to: [
                "description": "Standard object metadata.",
                "allOf": [["$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]],
            ])
        schema["x-kubernetes-group-version-kind"] = [gvk]
        return schema
    }

    private static let objectMeta: JSONValue = [
        "type": "object", "description": "Metadata that all persisted objects have.",
        "properties": [
            "name": ["type": "string"], "generateName": ["type": "string"], "namespace": ["type": "string"],
            "uid": ["type": "string"], "resourceVersion": ["type": "string"],
            "generation": ["type": "integer", "format": "int64"],
            "creationTimestamp": ["type": "string", "format": "date-time"],
            "deletionTimestamp": ["type": "string", "format": "date-time"],
            "deletionGracePeriodSeconds": ["type": "integer", "format": "int64"],
            "labels": ["type": "object", "additionalProperties": ["type": "string"]],
            "annotations": ["type": "object", "additionalProperties": ["type": "string"]],
            "finalizers": ["type": "array", "items": ["type": "string"]],
            "ownerReferences": ["type": "array", "items": ["type": "object"]],
            "managedFields": ["type": "array", "items": ["type": "object"]],
        ],
    ]
}
