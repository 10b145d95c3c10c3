// TLS 1.3 over memory, with BoringSSL: see the header for the contract of each function.

#include "cmeshloop.h"
#include "records.h"
#include "revocation.h"

#include <CNIOBoringSSL.h>
#include <cstdio>
#include <cstring>
#include <new>

struct cml_tls_context {
    SSL_CTX *ssl;
    bool is_server, has_leaf;
    size_t roots;
};

/// SAFETY: `in` and `out` borrow the caller's buffers during one call; `in` also from a feed until it is
/// consumed. The BIO below is the only reader and writer of them.
struct cml_tls {
    SSL *ssl;
    /// Once settled; `ssl` is null then.
    cml_records *records;
    bool is_server;
    const uint8_t *in;
    size_t in_length;
    uint8_t *out;
    size_t out_length, out_capacity;
};

// ---- The BIO: BoringSSL's view of the caller's buffers

static int bio_read(BIO *bio, char *bytes, int length) {
    auto *session = static_cast<cml_tls *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (session->in_length == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t count = static_cast<size_t>(length) < session->in_length ? length : session->in_length;
    memcpy(bytes, session->in, count);
    session->in += count;
    session->in_length -= count;
    return static_cast<int>(count);
}

static int bio_write(BIO *bio, const char *bytes, int length) {
    auto *session = static_cast<cml_tls *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    size_t space = session->out_capacity - session->out_length;
    if (space == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t count = static_cast<size_t>(length) < space ? length : space;
    memcpy(session->out + session->out_length, bytes, count);
    session->out_length += count;
    return static_cast<int>(count);
}

static long bio_control(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

static int bio_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static const BIO_METHOD *bio_method() {
    static const BIO_METHOD *method = [] {
        BIO_METHOD *made = BIO_meth_new(BIO_TYPE_SOURCE_SINK | 100, "loop");
        BIO_meth_set_read(made, bio_read);
        BIO_meth_set_write(made, bio_write);
        BIO_meth_set_ctrl(made, bio_control);
        BIO_meth_set_create(made, bio_create);
        return made;
    }();
    return method;
}

namespace {
/// Lends an output buffer to the BIO for one call.
struct Output {
    cml_tls *session;
    Output(cml_tls *session, void *out, size_t capacity) : session(session) {
        session->out = static_cast<uint8_t *>(out);
        session->out_capacity = capacity;
        session->out_length = 0;
        ERR_clear_error();
    }
    ~Output() {
        session->out = nullptr;
        session->out_capacity = session->out_length = 0;
    }
};
}  // namespace

// ---- Contexts

static const uint8_t kProtocols[] = {2, 'h', '2'};

/// A client that offers protocols but not h2 is refused; one that offers none is served (spec: reference).
static int select_protocol(
    SSL *, const uint8_t **out, uint8_t *out_length, const uint8_t *in, unsigned in_length, void *) {
    for (unsigned at = 0; at < in_length; at += 1 + in[at]) {
        if (in[at] == 2 && at + 3 <= in_length && memcmp(in + at + 1, "h2", 2) == 0) {
            *out = in + at + 1;
            *out_length = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

cml_tls_context *cml_tls_context_new(bool is_server, bool only_post_quantum) {
    ERR_clear_error();
    SSL_CTX *ssl = SSL_CTX_new(TLS_method());
    if (ssl == nullptr) return nullptr;
    static const uint16_t groups[] = {SSL_GROUP_X25519_MLKEM768, SSL_GROUP_X25519, SSL_GROUP_SECP256R1};
    bool good = SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1
        && SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1
        && SSL_CTX_set1_group_ids(ssl, groups, only_post_quantum ? 1 : sizeof groups / sizeof groups[0]) == 1;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_verify_depth(ssl, 8);
    // Each given root is an anchor, also when it is itself signed by another authority.
    X509_STORE_set_flags(SSL_CTX_get_cert_store(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    // A peer shows the same certificates in each of its connections: they are kept once.
    static CRYPTO_BUFFER_POOL *pool = CRYPTO_BUFFER_POOL_new();
    if (pool != nullptr) SSL_CTX_set1_buffer_pool(ssl, pool);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
    if (is_server) {
        SSL_CTX_set_alpn_select_cb(ssl, select_protocol, nullptr);
    } else if (good) {
        good = SSL_CTX_set_alpn_protos(ssl, kProtocols, sizeof kProtocols) == 0;
    }
    if (!good) {
        SSL_CTX_free(ssl);
        return nullptr;
    }
    return new cml_tls_context{ssl, is_server, false, 0};
}

void cml_tls_context_free(cml_tls_context *context) {
    if (context == nullptr) return;
    SSL_CTX_free(context->ssl);
    delete context;
}

/// Null also when bytes follow the certificate.
static X509 *parse_certificate(const void *der, size_t length) {
    ERR_clear_error();
    auto *bytes = static_cast<const uint8_t *>(der);
    const uint8_t *at = bytes;
    X509 *certificate = d2i_X509(nullptr, &at, static_cast<long>(length));
    if (certificate != nullptr && at != bytes + length) {
        X509_free(certificate);
        return nullptr;
    }
    return certificate;
}

bool cml_tls_context_add_certificate(cml_tls_context *context, const void *der, size_t length) {
    X509 *certificate = parse_certificate(der, length);
    if (certificate == nullptr) return false;
    bool good = context->has_leaf ? SSL_CTX_add1_chain_cert(context->ssl, certificate) == 1
                                  : SSL_CTX_use_certificate(context->ssl, certificate) == 1;
    context->has_leaf = true;
    X509_free(certificate);
    return good;
}

bool cml_tls_context_set_key(cml_tls_context *context, const void *der, size_t length) {
    ERR_clear_error();
    CBS bytes;
    CBS_init(&bytes, static_cast<const uint8_t *>(der), length);
    EVP_PKEY *key = EVP_parse_private_key(&bytes);
    bool good = key != nullptr && SSL_CTX_use_PrivateKey(context->ssl, key) == 1;
    EVP_PKEY_free(key);
    return good;
}

bool cml_tls_context_add_root(cml_tls_context *context, const void *der, size_t length) {
    X509 *certificate = parse_certificate(der, length);
    if (certificate == nullptr) return false;
    bool good = X509_STORE_add_cert(SSL_CTX_get_cert_store(context->ssl), certificate) == 1;
    // A server names the authorities it accepts, so that a client with several certificates can choose.
    if (good && context->is_server) good = SSL_CTX_add_client_CA(context->ssl, certificate) == 1;
    X509_free(certificate);
    if (good) context->roots += 1;
    return good;
}

bool cml_tls_context_seal(cml_tls_context *context) {
    ERR_clear_error();
    return context->has_leaf && context->roots > 0 && SSL_CTX_check_private_key(context->ssl) == 1;
}

size_t cml_tls_context_error(char *text, size_t capacity) {
    uint32_t code = ERR_peek_error();
    const char *reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    return static_cast<size_t>(snprintf(text, capacity, "%s", reason == nullptr ? "not valid" : reason));
}

// ---- Sessions

cml_tls *cml_tls_new(cml_tls_context *context) {
    auto *session = new cml_tls{};
    BIO *bio = BIO_new(bio_method());
    session->ssl = SSL_new(context->ssl);
    if (bio == nullptr || session->ssl == nullptr) {
        BIO_free(bio);
        SSL_free(session->ssl);
        delete session;
        return nullptr;
    }
    BIO_set_data(bio, session);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_shed_handshake_config(session->ssl, 1);
    session->is_server = context->is_server;
    if (context->is_server) {
        SSL_set_accept_state(session->ssl);
    } else {
        SSL_set_connect_state(session->ssl);
    }
    return session;
}

void cml_tls_free(cml_tls *session) {
    if (session == nullptr) return;
    SSL_free(session->ssl);
    records_free(session->records);
    delete session;
}

void cml_tls_feed(cml_tls *session, const void *bytes, size_t length) {
    session->in = static_cast<const uint8_t *>(bytes);
    session->in_length = length;
}

int cml_tls_handshake(cml_tls *session, void *out, size_t capacity, size_t *written) {
    Output lent(session, out, capacity);
    int result = SSL_do_handshake(session->ssl);
    *written = session->out_length;
    if (result == 1) return 1;
    return SSL_get_error(session->ssl, result) == SSL_ERROR_WANT_READ ? 0 : -1;
}

size_t cml_tls_unused(cml_tls *session) { return session->in_length; }

bool cml_tls_settle(cml_tls *session, uint64_t records_per_key) {
    session->records = records_take(session->ssl, session->is_server, records_per_key);
    if (session->records == nullptr) return false;
    SSL_free(session->ssl);
    session->ssl = nullptr;
    // Only its length counts from now on.
    session->in = nullptr;
    return true;
}

cml_tls *cml_tls_with_secrets(const void *in, const void *out, size_t length, bool is_server, uint64_t records_per_key) {
    cml_records *records = records_make(
        0x1301, EVP_sha256(), static_cast<const uint8_t *>(in), static_cast<const uint8_t *>(out), length, is_server,
        records_per_key);
    if (records == nullptr) return nullptr;
    auto *session = new cml_tls{};
    session->records = records;
    session->is_server = is_server;
    return session;
}

int cml_tls_open(cml_tls *session, void *bytes, size_t length, size_t *consumed, size_t *count) {
    return records_open(session->records, static_cast<uint8_t *>(bytes), length, consumed, count);
}

size_t cml_tls_seal(cml_tls *session, void *record, size_t count) {
    return cml_tls_seal_as(session, record, count, SSL3_RT_APPLICATION_DATA);
}

size_t cml_tls_seal_as(cml_tls *session, void *record, size_t count, uint8_t type) {
    return records_seal(session->records, static_cast<uint8_t *>(record), count, type);
}

size_t cml_tls_begin(cml_tls *session, void *out, size_t capacity) {
    return records_begin(session->records, static_cast<uint8_t *>(out), capacity);
}

size_t cml_tls_close(cml_tls *session, void *out, size_t capacity) {
    if (session->records != nullptr)
        return records_alert(
            session->records, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY, static_cast<uint8_t *>(out), capacity);
    Output lent(session, out, capacity);
    SSL_shutdown(session->ssl);
    return session->out_length;
}

size_t cml_tls_alert(cml_tls *session, uint8_t alert, void *out, size_t capacity) {
    if (session->records != nullptr)
        return records_alert(session->records, SSL3_AL_FATAL, alert, static_cast<uint8_t *>(out), capacity);
    Output lent(session, out, capacity);
    SSL_send_fatal_alert(session->ssl, alert);
    return session->out_length;
}

size_t cml_tls_peer_uris(cml_tls *session, void *out, size_t capacity) {
    if (session->ssl == nullptr) return 0;
    X509 *leaf = SSL_get_peer_certificate(session->ssl);
    if (leaf == nullptr || SSL_get_verify_result(session->ssl) != X509_V_OK) {
        X509_free(leaf);
        return 0;
    }
    auto *names = static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr));
    auto *bytes = static_cast<uint8_t *>(out);
    size_t written = 0;
    for (size_t i = 0, taken = 0; names != nullptr && i < sk_GENERAL_NAME_num(names) && taken < 16; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI) continue;
        const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
        size_t length = static_cast<size_t>(ASN1_STRING_length(uri));
        const uint8_t *text = ASN1_STRING_get0_data(uri);
        if (length > 2048 || memchr(text, 0, length) != nullptr) continue;
        if (written + 2 + length > capacity) {
            written = 0;
            break;
        }
        bytes[written] = static_cast<uint8_t>(length >> 8);
        bytes[written + 1] = static_cast<uint8_t>(length);
        memcpy(bytes + written + 2, text, length);
        written += 2 + length;
        taken += 1;
    }
    GENERAL_NAMES_free(names);
    X509_free(leaf);
    return written;
}

cml_peer *cml_tls_peer(cml_tls *session) { return session->ssl == nullptr ? nullptr : cml_peer_of(session->ssl); }

bool cml_tls_is_h2(cml_tls *session) {
    if (session->ssl == nullptr) return false;
    const uint8_t *name = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(session->ssl, &name, &length);
    return length == 2 && memcmp(name, "h2", 2) == 0;
}

const char *cml_tls_group(cml_tls *session) {
    if (session->ssl == nullptr) return "";
    uint16_t group = SSL_get_group_id(session->ssl);
    const char *name = group == 0 ? nullptr : SSL_get_group_name(group);
    return name == nullptr ? "" : name;
}

size_t cml_tls_error(cml_tls *session, char *text, size_t capacity) {
    if (session->records != nullptr) {
        int length = snprintf(text, capacity, "%s", session->records->failure);
        return length < 0 ? 0 : static_cast<size_t>(length) < capacity ? static_cast<size_t>(length) : capacity - 1;
    }
    long verification = SSL_get_verify_result(session->ssl);
    uint32_t code = ERR_peek_error();
    int length;
    if (verification != X509_V_OK && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        length = snprintf(
            text, capacity, "the peer's certificate is not trusted: %s", X509_verify_cert_error_string(verification));
    } else {
        const char *reason = code == 0 ? nullptr : ERR_reason_error_string(code);
        length = snprintf(text, capacity, "TLS: %s", reason == nullptr ? "connection broken" : reason);
    }
    return length < 0 ? 0 : static_cast<size_t>(length) < capacity ? static_cast<size_t>(length) : capacity - 1;
}
