// LabNode
