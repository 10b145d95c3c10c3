// The record layer of TLS 1.3 after the handshake (RFC 8446, 4.6, 5, 6 and 7): see records.h.

#include "records.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

static const size_t kHeader = CML_RECORD_HEADER;
static const size_t kTag = 16;
/// RFC 8446, 5.2: a sealed record is at most 256 bytes longer than its text.
static const size_t kSealedMax = CML_RECORD_BYTES + 256;
/// Empty records, alerts without consequence and handshake messages that a peer may send in a row.
static const unsigned kIdleMax = 32;
/// A session ticket: two 16-bit vectors and little more (RFC 8446, 4.6.1).
static const size_t kMessageMax = 1 << 18;

enum { kAlert = 21, kHandshake = 22, kData = 23 };
enum { kNewSessionTicket = 4, kKeyUpdate = 24 };
enum { kCloseNotify = 0, kUserCanceled = 90 };

static int fail(cml_records *records, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(records->failure, sizeof records->failure, format, arguments);
    va_end(arguments);
    return CML_OPEN_FAILED;
}

// ---- Keys

/// HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
static bool expand(
    const cml_records *records, const uint8_t *secret, const char *label, uint8_t *out, size_t length) {
    uint8_t info[32];
    size_t label_length = strlen(label);
    info[0] = static_cast<uint8_t>(length >> 8);
    info[1] = static_cast<uint8_t>(length);
    info[2] = static_cast<uint8_t>(6 + label_length);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_length);
    info[9 + label_length] = 0;
    return HKDF_expand(
               out, length, records->hash, secret, records->secret_length, info, 10 + label_length) == 1;
}

/// Key and IV from the direction's secret; the direction has none before.
static bool derive(const cml_records *records, record_direction *direction) {
    uint8_t key[EVP_AEAD_MAX_KEY_LENGTH];
    size_t length = EVP_AEAD_key_length(records->aead);
    bool good = expand(records, direction->secret, "key", key, length)
        && expand(records, direction->secret, "iv", direction->iv, sizeof direction->iv)
        && EVP_AEAD_CTX_init(&direction->aead, records->aead, key, length, kTag, nullptr) == 1;
    OPENSSL_cleanse(key, sizeof key);
    return good;
}

static bool rekey(const cml_records *records, record_direction *direction) {
    uint8_t next[sizeof direction->secret];
    if (!expand(records, direction->secret, "traffic upd", next, records->secret_length)) return false;
    memcpy(direction->secret, next, records->secret_length);
    OPENSSL_cleanse(next, sizeof next);
    EVP_AEAD_CTX_cleanup(&direction->aead);
    direction->sequence = 0;
    return derive(records, direction);
}

cml_records *records_make(
    uint16_t suite, const EVP_MD *hash, const uint8_t *in, const uint8_t *out, size_t length, bool is_server,
    uint64_t records_per_key) {
    auto *records = new cml_records{};
    switch (suite) {
        case 0x1301: records->aead = EVP_aead_aes_128_gcm(); break;
        case 0x1302: records->aead = EVP_aead_aes_256_gcm(); break;
        case 0x1303: records->aead = EVP_aead_chacha20_poly1305(); break;
        default: delete records; return nullptr;
    }
    records->hash = hash;
    records->secret_length = length;
    records->is_server = is_server;
    records->records_per_key = records_per_key;
    bool good = length <= sizeof records->in.secret;
    if (good) {
        memcpy(records->in.secret, in, length);
        memcpy(records->out.secret, out, length);
        good = derive(records, &records->in) && derive(records, &records->out);
    }
    if (!good) {
        records_free(records);
        return nullptr;
    }
    return records;
}

cml_records *records_take(const SSL *ssl, bool is_server, uint64_t records_per_key) {
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    bssl::Span<const uint8_t> in, out;
    if (cipher == nullptr || !bssl::SSL_get_traffic_secrets(ssl, &in, &out) || in.size() != out.size()) return nullptr;
    cml_records *records = records_make(
        SSL_CIPHER_get_protocol_id(cipher), SSL_CIPHER_get_handshake_digest(cipher), in.data(), out.data(), in.size(),
        is_server, records_per_key);
    if (records == nullptr) return nullptr;
    records->in.sequence = SSL_get_read_sequence(ssl);
    records->out.sequence = SSL_get_write_sequence(ssl);
    return records;
}

void records_free(cml_records *records) {
    if (records == nullptr) return;
    EVP_AEAD_CTX_cleanup(&records->in.aead);
    EVP_AEAD_CTX_cleanup(&records->out.aead);
    OPENSSL_cleanse(records, sizeof *records);
    delete records;
}

/// The record's number is part of its nonce (RFC 8446, 5.3).
static inline void make_nonce(record_direction *direction, uint8_t nonce[12]) {
    memcpy(nonce, direction->iv, 12);
    uint64_t sequence = __builtin_bswap64(direction->sequence++), low;
    memcpy(&low, nonce + 4, 8);
    low ^= sequence;
    memcpy(nonce + 4, &low, 8);
}

// ---- Out

size_t records_seal(cml_records *records, uint8_t *record, size_t count, uint8_t type) {
    size_t sealed = count + 1 + kTag, written = 0;
    record[0] = kData;
    record[1] = 3;
    record[2] = 3;
    record[3] = static_cast<uint8_t>(sealed >> 8);
    record[4] = static_cast<uint8_t>(sealed);
    record[kHeader + count] = type;
    uint8_t nonce[12];
    make_nonce(&records->out, nonce);
    if (records->out.sequence >= records->records_per_key) records->update_due = true;
    // SAFETY: input and output are the same bytes, which the AEAD allows; the tag goes behind them, into the
    // caller's CML_RECORD_OVERHEAD.
    if (EVP_AEAD_CTX_seal(
            &records->out.aead, record + kHeader, &written, sealed, nonce, sizeof nonce, record + kHeader, count + 1,
            record, kHeader) != 1)
        return 0;
    return kHeader + written;
}

size_t records_begin(cml_records *records, uint8_t *out, size_t capacity) {
    if (!records->update_due) return 0;
    // update_not_requested: the peer decides about its own keys.
    static const uint8_t message[] = {kKeyUpdate, 0, 0, 1, 0};
    if (capacity < sizeof message + CML_RECORD_OVERHEAD) return 0;
    memcpy(out + kHeader, message, sizeof message);
    size_t length = records_seal(records, out, sizeof message, kHandshake);
    if (length == 0 || !rekey(records, &records->out)) return 0;
    records->update_due = false;
    return length;
}

size_t records_alert(cml_records *records, uint8_t level, uint8_t alert, uint8_t *out, size_t capacity) {
    if (capacity < 2 + CML_RECORD_OVERHEAD) return 0;
    out[kHeader] = level;
    out[kHeader + 1] = alert;
    return records_seal(records, out, 2, kAlert);
}

// ---- In

static int open_alert(cml_records *records, const uint8_t *text, size_t count) {
    if (count != 2) return fail(records, "TLS: an alert of %zu bytes", count);
    if (text[1] == kCloseNotify) return CML_OPEN_CLOSED;
    if (text[1] == kUserCanceled) return CML_OPEN_NOTHING;
    return fail(records, "TLS: the peer says %s", SSL_alert_desc_string_long(text[1]));
}

static int key_update(cml_records *records, uint8_t request, bool ends_record) {
    if (request > 1) return fail(records, "TLS: a KeyUpdate with request %u", request);
    if (!ends_record) return fail(records, "TLS: bytes behind a KeyUpdate in its record");
    if (!rekey(records, &records->in)) return fail(records, "TLS: no new key");
    if (request == 1) records->update_due = true;
    return CML_OPEN_NOTHING;
}

/// Messages after the handshake may be cut at any byte; only the one byte of a KeyUpdate is of interest.
static int open_handshake(cml_records *records, const uint8_t *text, size_t count) {
    if (count == 0) return fail(records, "TLS: an empty handshake record");
    while (count > 0) {
        if (records->message_header < 4) {
            records->message[records->message_header++] = *text++;
            count -= 1;
            if (records->message_header < 4) continue;
            size_t length = static_cast<size_t>(records->message[1]) << 16 | records->message[2] << 8
                | records->message[3];
            bool known = records->message[0] == kKeyUpdate ? length == 1
                : records->message[0] == kNewSessionTicket && !records->is_server && length > 0
                    && length <= kMessageMax;
            if (!known)
                return fail(records, "TLS: handshake message %u of %zu bytes", records->message[0], length);
            records->message_left = length;
            continue;
        }
        size_t taken = count < records->message_left ? count : records->message_left;
        uint8_t first = *text;
        text += taken;
        count -= taken;
        records->message_left -= taken;
        if (records->message_left > 0) break;
        records->message_header = 0;
        if (records->message[0] == kKeyUpdate) {
            int result = key_update(records, first, count == 0);
            if (result != CML_OPEN_NOTHING) return result;
        }
    }
    return CML_OPEN_NOTHING;
}

int records_open(cml_records *records, uint8_t *bytes, size_t length, size_t *consumed, size_t *count) {
    if (length < kHeader) return CML_OPEN_WANTS_MORE;
    size_t sealed = static_cast<size_t>(bytes[3]) << 8 | bytes[4];
    if (bytes[0] != kData || bytes[1] != 3 || bytes[2] != 3)
        return fail(records, "TLS: a record of type %u, version %u.%u", bytes[0], bytes[1], bytes[2]);
    if (sealed < 1 + kTag || sealed > kSealedMax) return fail(records, "TLS: a record of %zu bytes", sealed);
    if (length < kHeader + sealed) return CML_OPEN_WANTS_MORE;
    uint8_t nonce[12];
    make_nonce(&records->in, nonce);
    uint8_t *text = bytes + kHeader;
    size_t opened = 0;
    if (EVP_AEAD_CTX_open(
            &records->in.aead, text, &opened, sealed, nonce, sizeof nonce, text, sealed, bytes, kHeader) != 1)
        return fail(records, "TLS: a record is damaged or not sealed with the peer's key");
    *consumed = kHeader + sealed;
    // The type is the last byte that is not padding.
    while (opened > 0 && text[opened - 1] == 0) opened -= 1;
    if (opened == 0) return fail(records, "TLS: a record of padding only");
    uint8_t type = text[--opened];
    if (opened > CML_RECORD_BYTES) return fail(records, "TLS: a record with %zu bytes of text", opened);
    if (type != kHandshake && records->message_header > 0)
        return fail(records, "TLS: a handshake message is interrupted");
    *count = opened;
    if (type == kData && opened > 0) {
        records->idle = 0;
        return CML_OPEN_DATA;
    }
    if (++records->idle > kIdleMax) return fail(records, "TLS: too many records without data");
    switch (type) {
        case kData: return CML_OPEN_NOTHING;
        case kAlert: return open_alert(records, text, opened);
        case kHandshake: return open_handshake(records, text, opened);
        default: return fail(records, "TLS: content of type %u", type);
    }
}
