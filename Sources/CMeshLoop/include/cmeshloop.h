#pragma once
#ifdef __cplusplus
extern "C" {
#endif
int cml_version(void);
#ifdef __cplusplus
}
#endif
