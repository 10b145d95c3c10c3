// LabControllers
