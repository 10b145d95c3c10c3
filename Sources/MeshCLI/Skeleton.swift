// MeshCLI
