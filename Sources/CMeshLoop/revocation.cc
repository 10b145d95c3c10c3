// Certificate revocation lists (RFC 5280, 5), with BoringSSL: see the headers for the contract of each function.

#include "revocation.h"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <vector>

struct cml_revocations {
    std::vector<X509_CRL *> lists;
    size_t entries = 0;

    ~cml_revocations() {
        for (X509_CRL *list : this->lists) X509_CRL_free(list);
    }
};

/// A list whose meaning depends on something that nobody here looks at must not be half applied. What remains, the
/// scope of issuing distribution points included, can only make a list say less about others: what is in it is revoked.
static const char *unsupported(X509_CRL *list) {
    if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0) return "a delta list; complete ones are needed";
    int critical = -1;
    auto *scope = static_cast<ISSUING_DIST_POINT *>(
        X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, &critical, nullptr));
    if (scope == nullptr && critical != -1) return "its issuing distribution point cannot be read";
    bool is_indirect = scope != nullptr && scope->indirectCRL > 0;
    ISSUING_DIST_POINT_free(scope);
    if (is_indirect) return "an indirect list, which speaks for other authorities than its issuer";
    for (int i = 0; i < X509_CRL_get_ext_count(list); i++) {
        X509_EXTENSION *extension = X509_CRL_get_ext(list, i);
        if (!X509_EXTENSION_get_critical(extension)) continue;
        int kind = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (kind != NID_issuing_distribution_point && kind != NID_authority_key_identifier && kind != NID_crl_number) {
            return "it has a critical extension that is not known";
        }
    }
    return nullptr;
}

/// Takes `list`, which may be null.
static const char *add(cml_revocations *revocations, X509_CRL *list, size_t lists_max) {
    if (list == nullptr) return "not the encoding of a list";
    const char *why = revocations->lists.size() >= lists_max ? "too many lists" : unsupported(list);
    if (why != nullptr) {
        X509_CRL_free(list);
        return why;
    }
    revocations->lists.push_back(list);
    const STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
    revocations->entries += entries == nullptr ? 0 : sk_X509_REVOKED_num(entries);
    return nullptr;
}

static X509_CRL *decode(const uint8_t *bytes, size_t length) {
    const uint8_t *at = bytes;
    X509_CRL *list = d2i_X509_CRL(nullptr, &at, static_cast<long>(length));
    if (list == nullptr || at == bytes + length) return list;
    X509_CRL_free(list);
    return nullptr;
}

static bool contains(const uint8_t *bytes, size_t length, const char *text) {
    return memmem(bytes, length, text, strlen(text)) != nullptr;
}

/// Null, or why not.
static const char *parse_pem(
    cml_revocations *revocations, const uint8_t *bytes, size_t length, size_t lists_max) {
    BIO *in = BIO_new_mem_buf(bytes, static_cast<ossl_ssize_t>(length));
    if (in == nullptr) return "out of memory";
    const char *why = nullptr;
    while (why == nullptr) {
        char *name = nullptr, *header = nullptr;
        uint8_t *data = nullptr;
        long count = 0;
        ERR_clear_error();
        if (PEM_read_bio(in, &name, &header, &data, &count) != 1) {
            uint32_t code = ERR_peek_last_error();
            // The end of the file; anything else is a block that began and is broken.
            if (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE) {
                why = "a PEM block is broken";
            }
            break;
        }
        if (strcmp(name, PEM_STRING_X509_CRL) == 0) {
            why = add(revocations, decode(data, static_cast<size_t>(count)), lists_max);
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
    }
    BIO_free(in);
    return why;
}

cml_revocations *cml_revocations_parse(
    const void *bytes, size_t length, size_t lists_max, char *text, size_t capacity) {
    auto *made = new cml_revocations;
    auto *start = static_cast<const uint8_t *>(bytes);
    size_t blank = 0;
    while (blank < length && strchr(" \t\r\n", start[blank]) != nullptr && start[blank] != 0) blank++;
    const char *why = nullptr;
    if (blank < length) {
        ERR_clear_error();
        why = contains(start, length, "-----BEGIN ") ? parse_pem(made, start, length, lists_max)
                                                     : add(made, decode(start, length), lists_max);
    }
    ERR_clear_error();
    if (why == nullptr) return made;
    snprintf(text, capacity, "list %zu: %s", made->lists.size() + 1, why);
    delete made;
    return nullptr;
}

void cml_revocations_free(cml_revocations *revocations) { delete revocations; }

size_t cml_revocations_lists(const cml_revocations *revocations) { return revocations->lists.size(); }
size_t cml_revocations_entries(const cml_revocations *revocations) { return revocations->entries; }

bool cml_revocations_outdated(const cml_revocations *revocations, int64_t now_seconds) {
    for (const X509_CRL *list : revocations->lists) {
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(list);
        // 0: the time cannot be read, which says nothing.
        if (next != nullptr && X509_cmp_time_posix(next, now_seconds) < 0) return true;
    }
    return false;
}

/// Whether `authority` issued `certificate` and signed `list`.
static bool speaks(const X509 *authority, X509 *certificate, X509_CRL *list) {
    if (X509_NAME_cmp(X509_get_subject_name(authority), X509_get_issuer_name(certificate)) != 0) return false;
    EVP_PKEY *key = X509_get0_pubkey(authority);
    return key != nullptr && X509_CRL_verify(list, key) == 1 && X509_verify(certificate, key) == 1;
}

/// Two authorities may share a name, above all an old root and its successor: only the key tells whose list it is.
static bool speaks_any(
    const STACK_OF(X509) *sent, const STACK_OF(X509_OBJECT) *roots, X509 *certificate, X509_CRL *list) {
    for (size_t i = 0; i < sk_X509_num(sent); i++) {
        if (speaks(sk_X509_value(sent, i), certificate, list)) return true;
    }
    for (size_t i = 0; roots != nullptr && i < sk_X509_OBJECT_num(roots); i++) {
        const X509 *root = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(roots, i));
        if (root != nullptr && speaks(root, certificate, list)) return true;
    }
    return false;
}

static bool find(
    const cml_revocations *revocations, const STACK_OF(X509) *sent, const STACK_OF(X509_OBJECT) *roots,
    char *serial, size_t capacity) {
    for (size_t i = 0; i < sk_X509_num(sent); i++) {
        X509 *certificate = sk_X509_value(sent, i);
        for (X509_CRL *list : revocations->lists) {
            if (X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_issuer_name(certificate)) != 0) continue;
            X509_REVOKED *entry = nullptr;
            // First what is cheap: signatures are only checked for a certificate that is listed.
            if (X509_CRL_get0_by_cert(list, &entry, certificate) != 1) continue;
            if (!speaks_any(sent, roots, certificate, list)) continue;
            const ASN1_INTEGER *number = X509_get0_serialNumber(certificate);
            size_t written = 0;
            serial[0] = 0;
            for (int at = 0; at < ASN1_STRING_length(number) && written + 3 <= capacity; at++) {
                snprintf(serial + written, capacity - written, "%02x", ASN1_STRING_get0_data(number)[at]);
                written += 2;
            }
            ERR_clear_error();
            return true;
        }
    }
    ERR_clear_error();
    return false;
}

// ---- Peers

/// The bytes of a certificate are shared by all connections with that peer; the parsed form would cost kilobytes for
/// each, and is made when it is needed.
struct cml_peer {
    STACK_OF(CRYPTO_BUFFER) *sent;
    SSL_CTX *context;
};

cml_peer *cml_peer_of(const SSL *ssl) {
    const STACK_OF(CRYPTO_BUFFER) *sent = SSL_get0_peer_certificates(ssl);
    if (sent == nullptr || sk_CRYPTO_BUFFER_num(sent) == 0) return nullptr;
    STACK_OF(CRYPTO_BUFFER) *kept = sk_CRYPTO_BUFFER_new_null();
    if (kept == nullptr) return nullptr;
    for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(sent); i++) {
        CRYPTO_BUFFER *certificate = sk_CRYPTO_BUFFER_value(sent, i);
        if (sk_CRYPTO_BUFFER_push(kept, certificate) == 0) {
            sk_CRYPTO_BUFFER_pop_free(kept, CRYPTO_BUFFER_free);
            return nullptr;
        }
        CRYPTO_BUFFER_up_ref(certificate);
    }
    SSL_CTX *context = SSL_get_SSL_CTX(ssl);
    SSL_CTX_up_ref(context);
    return new cml_peer{kept, context};
}

void cml_peer_free(cml_peer *peer) {
    if (peer == nullptr) return;
    sk_CRYPTO_BUFFER_pop_free(peer->sent, CRYPTO_BUFFER_free);
    SSL_CTX_free(peer->context);
    delete peer;
}

bool cml_peer_revoked(const cml_peer *peer, const cml_revocations *revocations, char *serial, size_t capacity) {
    if (revocations->entries == 0) return false;
    STACK_OF(X509) *sent = sk_X509_new_null();
    for (size_t i = 0; sent != nullptr && i < sk_CRYPTO_BUFFER_num(peer->sent); i++) {
        X509 *certificate = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(peer->sent, i));
        // They could be parsed in the handshake; one that cannot now has run out of memory.
        if (certificate == nullptr || sk_X509_push(sent, certificate) == 0) {
            X509_free(certificate);
            sk_X509_pop_free(sent, X509_free);
            sent = nullptr;
        }
    }
    if (sent == nullptr) {
        snprintf(serial, capacity, "unknown");
        return true;
    }
    STACK_OF(X509_OBJECT) *roots = X509_STORE_get1_objects(SSL_CTX_get_cert_store(peer->context));
    bool revoked = find(revocations, sent, roots, serial, capacity);
    sk_X509_OBJECT_pop_free(roots, X509_OBJECT_free);
    sk_X509_pop_free(sent, X509_free);
    return revoked;
}
