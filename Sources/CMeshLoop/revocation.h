// What the TLS session asks of revocation lists; see cmeshloop.h for the rest.

#ifndef CMESHLOOP_REVOCATION_H
#define CMESHLOOP_REVOCATION_H

#include "cmeshloop.h"

#include <CNIOBoringSSL.h>

/// Whether one of `sent` is revoked by a list that its issuer signed; issuers are looked for in `sent` and `roots`
/// (which may be null). The peer's chain has been verified: whoever signed one of its certificates is trusted.
bool cml_revocations_find(
    const cml_revocations *revocations, const STACK_OF(X509) *sent, const STACK_OF(X509_OBJECT) *roots,
    char *serial, size_t capacity);

#endif
