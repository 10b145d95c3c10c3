// LabAPIServer
