package import KubeAPI
package import KubeClient

/// One thing a controller decided to do. Reconcile functions are pure and answer with these.
package enum Write: Hashable, Sendable {
    case create(ResourceType, KubeObject)
    /// The whole object, with the resource version it was derived from: a change in between is a conflict.
    case replace(ResourceType, KubeObject)
    case replaceStatus(ResourceType, KubeObject)
    /// Only the object with this uid.
    case delete(ResourceType, KubeObject, DeleteOptions.Propagation?, gracePeriodSeconds: Int64? = nil)
    case event(EventNote)
}

/// What an Event says about an object.
package struct EventNote: Hashable, Sendable {
    /// `involvedObject`: apiVersion, kind, namespace, name, uid, resourceVersion.
    package var object: KubeObject
    package var isWarning: Bool
    /// UpperCamelCase, e.g. `ScalingReplicaSet`.
    package var reason: String
    package var message: String
    /// The component that speaks, e.g. `deployment-controller`.
    package var component: String

    package init(
        _ object: KubeObject, isWarning: Bool = false, _ reason: String, _ message: String, by component: String
    ) {
        self.object = object
        self.isWarning = isWarning
        self.reason = reason
        self.message = message
        self.component = component
    }
}
