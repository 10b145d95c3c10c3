#pragma once
int cmx_version(void);
