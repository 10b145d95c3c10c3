/// This build's version: the tag of its images and what `version` prints.
public enum MartletVersion {
    public static let current = "0.1.0"
}
