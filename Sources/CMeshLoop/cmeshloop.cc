#include "cmeshloop.h"
#include <CNIOBoringSSL.h>
extern "C" int cml_version(void) { SSL_CTX *c = SSL_CTX_new(TLS_method()); int v = SSL_CTX_get_min_proto_version(c); SSL_CTX_free(c); return v; }
