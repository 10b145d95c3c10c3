#pragma once

// The fence between the event loop and what Swift cannot call well: sockets made inside another network
// namespace, variadic and struct-heavy socket options, and BoringSSL driven through memory.
//
// Conventions. A function that returns a descriptor or a count returns `-errno` on failure, unless it says
// otherwise. No function keeps a pointer past its return, except the handles it hands out. No function blocks.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- Sockets (sockets.cc)

/// An address and port, in the form of the Swift value: network order read as big-endian numbers; an IPv4
/// address is the low 32 bits of `low`; IPv4-mapped IPv6 never appears.
typedef struct cml_endpoint {
    uint64_t high, low;
    uint16_t port;
    bool is_v6;
} cml_endpoint;

/// What to do about IP_TRANSPARENT.
enum { CML_TRANSPARENT_OFF = 0, CML_TRANSPARENT_BEST_EFFORT = 1, CML_TRANSPARENT_REQUIRED = 2 };

typedef struct cml_listen_options {
    int network_namespace;   ///< Descriptor of the namespace to be born in; -1: the caller's own.
    cml_endpoint local;      ///< Port 0 takes a free one.
    bool dual_stack;         ///< With an IPv6 `local`: accept IPv4 too.
    bool reuse_port;         ///< Failure is ignored: some kernels refuse it, and one listener still works.
    uint32_t mark;           ///< SO_MARK; 0 sets none. Failure is an error: unmarked sockets would be captured.
    int transparent;
    int backlog;
} cml_listen_options;

typedef struct cml_listen_result {
    uint16_t port;
    bool is_transparent;
    const char *step;        ///< The call that failed: static text.
} cml_listen_result;

/// A listening, non-blocking, close-on-exec TCP socket. With `reuse_port` it takes an equal share of the port's new
/// connections, even if somebody steered them before.
int cml_listen(const cml_listen_options *options, cml_listen_result *result);

/// Steers new connections of the listener's SO_REUSEPORT group to its member `index`, counted from 0 in order of their
/// coming; the place of one that closes is taken by the last. An index that nobody has steers nothing: shares are
/// equal. Members that join later, and the group without this listener, are steered too, until one joins by cml_listen.
int cml_steer(int listener, uint32_t index);

typedef struct cml_datagram_options {
    int network_namespace;
    cml_endpoint local;      ///< Port 0 takes a free one.
    bool dual_stack;
    bool reuse_port;         ///< Failure is an error: the successor of this process could not bind.
    uint32_t mark;
} cml_datagram_options;

/// A bound, non-blocking, close-on-exec UDP socket.
int cml_datagram(const cml_datagram_options *options, cml_listen_result *result);

typedef struct cml_dial_options {
    int network_namespace;
    cml_endpoint target;
    bool spoofs_source;      ///< Bind to `source` with a port below clients' range; when that fails the own address is used.
    cml_endpoint source;
    uint32_t mark;
    int keepalive_idle, keepalive_interval, keepalive_count;  ///< Seconds; idle 0 sets no keepalive.
    unsigned user_timeout_milliseconds;                       ///< TCP_USER_TIMEOUT; 0 sets none.
} cml_dial_options;

/// Starts a non-blocking connect. The socket becomes writable, or fails, later; `*spoofed` tells which
/// address it has.
int cml_dial(const cml_dial_options *options, bool *spoofed);

/// Accepts one connection: non-blocking, close-on-exec, TCP_NODELAY. -EAGAIN when none waits.
int cml_accept(int listener, cml_endpoint *peer);
int cml_local_endpoint(int socket, cml_endpoint *local);
/// The address dialled before redirection; -ENOENT or -ENOPROTOOPT when the connection was not redirected.
int cml_original_destination(int socket, cml_endpoint *destination);
int cml_set_keepalive(int socket, int idle, int interval, int count);
/// TCP_USER_TIMEOUT
int cml_set_user_timeout(int socket, unsigned milliseconds);
/// The next close sends RST instead of FIN and throws unsent data away.
int cml_set_reset_on_close(int socket);
/// SO_ERROR: 0 when the socket is well.
int cml_pending_error(int socket);

// ---- Polling (sockets.cc)

enum { CML_READABLE = 0x001, CML_WRITABLE = 0x004, CML_ERROR = 0x008, CML_HANG_UP = 0x010, CML_PEER_FINISHED = 0x2000 };

typedef struct cml_event {
    uint32_t readiness;
    void *source;
} cml_event;

int cml_poll_create(void);
/// Watches `descriptor`; events carry `source`. With `edge_triggered` both directions, else readable only.
int cml_poll_add(int poll, int descriptor, void *source, bool edge_triggered);
int cml_poll_remove(int poll, int descriptor);
/// At most 256 events; `timeout` in milliseconds, -1 waits forever. Interrupted calls return 0.
int cml_poll_wait(int poll, cml_event *events, int capacity, int timeout);
/// A non-blocking eventfd.
int cml_waker_create(void);
void cml_waker_wake(int waker);
void cml_waker_clear(int waker);
/// Names the calling thread for tools; cut to 15 bytes.
void cml_name_thread(const char *name);

// ---- TLS (tls.cc)

/// Certificates and keys of one identity for one role. Reference counted: a session keeps its context alive.
/// Used from several threads after `cml_tls_context_seal`.
typedef struct cml_tls_context cml_tls_context;
/// One connection's TLS state. One thread at a time.
typedef struct cml_tls cml_tls;

/// TLS 1.3 only, ALPN h2, peer certificate mandatory, no resumption; X25519MLKEM768, X25519, P-256, or only the first
/// of these.
cml_tls_context *cml_tls_context_new(bool is_server, bool only_post_quantum);
void cml_tls_context_free(cml_tls_context *context);
/// DER. The first certificate is the leaf, later ones are intermediates.
bool cml_tls_context_add_certificate(cml_tls_context *context, const void *der, size_t length);
/// PKCS#8 DER.
bool cml_tls_context_set_key(cml_tls_context *context, const void *der, size_t length);
/// DER. Each root is a trust anchor as it stands.
bool cml_tls_context_add_root(cml_tls_context *context, const void *der, size_t length);
/// True when certificate and key belong together and at least one root is known.
bool cml_tls_context_seal(cml_tls_context *context);

cml_tls *cml_tls_new(cml_tls_context *context);
void cml_tls_free(cml_tls *session);

/// Hands ciphertext to the session. The bytes are borrowed until the session has asked for more
/// (a read or handshake that answers "want more" has consumed them all), or until the next feed.
void cml_tls_feed(cml_tls *session, const void *bytes, size_t length);
/// 1 done, 0 wants more, -1 failed (`cml_tls_error`). `*written` bytes of `out` are to be sent in every case.
int cml_tls_handshake(cml_tls *session, void *out, size_t capacity, size_t *written);
/// Bytes of the last feed, at its end, that the handshake did not use; also once settled.
size_t cml_tls_unused(cml_tls *session);
/// After the handshake, and after everything about the peer has been asked: keeps the keys and nothing else. A new
/// key is derived after `records_per_key` sealed records. From now on only the functions below serve.
bool cml_tls_settle(cml_tls *session, uint64_t records_per_key);
/// A settled session of TLS_AES_128_GCM_SHA256 without a handshake: traffic secrets of `length` bytes, 32 in earnest. For
/// tests. Null when that cannot be.
cml_tls *cml_tls_with_secrets(const void *in, const void *out, size_t length, bool is_server, uint64_t records_per_key);

/// Before the text of a record and in all around it; the text of one record at most (RFC 8446, 5).
enum { CML_RECORD_HEADER = 5, CML_RECORD_OVERHEAD = 22, CML_RECORD_BYTES = 16384 };

enum {
    CML_OPEN_WANTS_MORE = 0,  ///< The record is not complete.
    CML_OPEN_DATA = 1,        ///< `*count` bytes of text lie at `bytes + CML_RECORD_HEADER`.
    CML_OPEN_NOTHING = 2,     ///< A record that brings no data.
    CML_OPEN_CLOSED = -1,     ///< The peer closed in order.
    CML_OPEN_FAILED = -2,
};
/// Opens the first record of `bytes` where it lies. `*consumed` is its length, unless it wants more or failed.
int cml_tls_open(cml_tls *session, void *bytes, size_t length, size_t *consumed, size_t *count);
/// Seals the `count` bytes at `record + CML_RECORD_HEADER` where they lie; `record` has room for `count` and
/// CML_RECORD_OVERHEAD. The record's length, or 0.
size_t cml_tls_seal(cml_tls *session, void *record, size_t count);
/// The same with another content type (RFC 8446, 5.1), for tests.
size_t cml_tls_seal_as(cml_tls *session, void *record, size_t count, uint8_t type);
/// A record that must go before the next sealed one, nearly never: a KeyUpdate. Its length.
size_t cml_tls_begin(cml_tls *session, void *out, size_t capacity);
/// close_notify, or the given fatal alert, in either part of life; the ciphertext's length.
size_t cml_tls_close(cml_tls *session, void *out, size_t capacity);
size_t cml_tls_alert(cml_tls *session, uint8_t alert, void *out, size_t capacity);

/// The URI subject alternative names of the verified peer leaf, one after the other, each as a 16-bit
/// big-endian length and the bytes. At most 16 names of at most 2048 bytes; a name with a zero byte is left
/// out. Returns the bytes written; 0 when there is none or `capacity` is too small.
size_t cml_tls_peer_uris(cml_tls *session, void *out, size_t capacity);
/// Certificate revocation lists (RFC 5280, 5), read-only once made, for any thread.
typedef struct cml_revocations cml_revocations;
/// PEM with any number of blocks (those that are no X509 CRL are passed over), or one DER list. No bytes, and PEM
/// without a list, revoke nothing. Null when something cannot be read or has a meaning that this does not know
/// (delta and indirect lists, unknown critical extensions); the reason is then in `why`.
cml_revocations *cml_revocations_parse(const void *bytes, size_t length, size_t lists_max, char *why, size_t capacity);
void cml_revocations_free(cml_revocations *revocations);
size_t cml_revocations_lists(const cml_revocations *revocations);
/// Entries of all lists.
size_t cml_revocations_entries(const cml_revocations *revocations);
/// Whether a list says that a newer one should exist by now.
bool cml_revocations_outdated(const cml_revocations *revocations, int64_t now_seconds);
/// The certificates that the peer of a finished handshake sent, with the roots it was verified with: what is needed to
/// ask again later. Null once settled, and when memory is short.
typedef struct cml_peer cml_peer;
cml_peer *cml_tls_peer(cml_tls *session);
void cml_peer_free(cml_peer *peer);
/// Whether one of its certificates is revoked by a list which its issuer signed: an authority among those the peer sent,
/// or one of the roots. The serial number, as hexadecimal text, is then in `serial`.
bool cml_peer_revoked(const cml_peer *peer, const cml_revocations *revocations, char *serial, size_t capacity);

/// Whether the peer agreed on h2.
bool cml_tls_is_h2(cml_tls *session);
/// What failed, as text for an operator; returns its length without the final zero.
size_t cml_tls_error(cml_tls *session, char *text, size_t capacity);
/// The calling thread's last BoringSSL error, for the context functions.
size_t cml_tls_context_error(char *text, size_t capacity);
/// The name of the key exchange group, once the handshake is done ("X25519MLKEM768").
const char *cml_tls_group(cml_tls *session);

#ifdef __cplusplus
}
#endif
