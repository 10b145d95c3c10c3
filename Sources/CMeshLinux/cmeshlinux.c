#include "cmeshlinux.h"
int cmx_version(void) { return 1; }
