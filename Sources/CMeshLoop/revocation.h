// What the TLS session asks of revocation; see cmeshloop.h for the rest.

#ifndef CMESHLOOP_REVOCATION_H
#define CMESHLOOP_REVOCATION_H

#include "cmeshloop.h"

#include <CNIOBoringSSL.h>

/// Of a finished handshake. Null when the peer sent nothing, or memory is short.
cml_peer *cml_peer_of(const SSL *ssl);

#endif
