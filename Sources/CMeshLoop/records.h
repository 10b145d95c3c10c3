#pragma once

#include "cmeshloop.h"

#include <CNIOBoringSSL.h>

/// One direction of a TLS 1.3 connection after its handshake (RFC 8446, 5 and 7).
struct record_direction {
    EVP_AEAD_CTX aead;
    uint8_t iv[12];
    uint8_t secret[48];
    uint64_t sequence;
};

/// The record layer after the handshake: records are sealed and opened where they lie, so that a byte is copied
/// only by the kernel. BoringSSL's own would copy each twice on the way in and once on the way out.
struct cml_records {
    const EVP_AEAD *aead;
    const EVP_MD *hash;
    size_t secret_length;
    record_direction in, out;
    bool is_server;
    /// A KeyUpdate of ours must go before the next record.
    bool update_due;
    uint64_t records_per_key;
    /// Records in a row that brought no data.
    unsigned idle;
    // A handshake message that is not complete yet.
    uint8_t message[4];
    size_t message_header;
    size_t message_left;
    char failure[80];
};

/// Records of one cipher suite (RFC 8446, B.4) and two traffic secrets of `length` bytes; null when that cannot be.
cml_records *records_make(
    uint16_t suite, const EVP_MD *hash, const uint8_t *in, const uint8_t *out, size_t length, bool is_server,
    uint64_t records_per_key);
/// Takes the keys of a finished handshake; null when there are none. `ssl` must not be read or written afterwards.
cml_records *records_take(const SSL *ssl, bool is_server, uint64_t records_per_key);
void records_free(cml_records *records);
int records_open(cml_records *records, uint8_t *bytes, size_t length, size_t *consumed, size_t *count);
/// Seals `count` bytes at `record + 5`; the record's length, 0 when it failed.
size_t records_seal(cml_records *records, uint8_t *record, size_t count, uint8_t type);
size_t records_begin(cml_records *records, uint8_t *out, size_t capacity);
size_t records_alert(cml_records *records, uint8_t level, uint8_t alert, uint8_t *out, size_t capacity);
