/* What the programs of the bench share: time, sockets, the WebSocket handshake, messages.
 *
 * A message is Bybit's order book delta with one more key, `ns`: when it was made, as
 * 10^18 + CLOCK_MONOTONIC in ns, so that it always has 19 digits and every message of a topic
 * has the same length. Relays ignore it or forward it; the load generator reads it.
 */
#ifndef WIRE_H
#define WIRE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ULL
#define NS_BASE 1000000000000000000ULL /* added to `ns`: always 19 digits */
#define FIRST_UPDATE_ID 10000000ULL    /* always 8 digits */
#define FIRST_SEQ 70000000000ULL       /* always 11 digits */
#define MESSAGE_LENGTH 560             /* bytes of one delta of orderbook.50.BTCUSDT */
#define CHANGES 9                      /* levels a side in one delta */
#define VARIANTS 64                    /* different contents of a delta */
#define LEVELS_LENGTH 381              /* what fills a delta up to MESSAGE_LENGTH */

static inline uint64_t monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static inline uint64_t wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) die("calloc");
    return memory;
}

/* Write `value` into `width` digits at `at`; return the byte behind them. */
static inline char *put_digits(char *at, uint64_t value, int width) {
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + width;
}

static inline char *put_text(char *at, const char *text) {
    size_t length = strlen(text);
    memcpy(at, text, length);
    return at + length;
}

/* The header of an unmasked text frame; return the byte behind it. */
static inline char *put_frame_header(char *at, size_t length) {
    *at++ = (char)0x81;
    if (length < 126) {
        *at++ = (char)length;
    } else if (length < 65536) {
        *at++ = 126;
        *at++ = (char)(length >> 8);
        *at++ = (char)length;
    } else {
        *at++ = 127;
        for (int shift = 56; shift >= 0; shift -= 8) *at++ = (char)((uint64_t)length >> shift);
    }
    return at;
}

/* ---- messages ---- */

static inline uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(*state >> 33);
}

/* One level as ["60000.10","3.684"]: `index` counts from the best price outwards. */
static inline char *put_level(char *at, int is_bid, int index, const char *size) {
    int cents = is_bid ? 6000000 - 10 * index : 6000010 + 10 * index;
    return at + sprintf(at, "[\"%d.%02d\",\"%s\"]", cents / 100, cents % 100, size);
}

/* A size of `width` characters, such as 3.684 or 12.041; it is never zero. */
static inline void make_size(char *at, int width, uint64_t *random) {
    int point = width - 4;
    for (int i = 0; i < width; i++) at[i] = (char)('0' + next_random(random) % 10);
    at[0] = (char)('1' + next_random(random) % 9);
    at[point] = '.';
    at[width] = 0;
}

static char levels_of[VARIANTS][LEVELS_LENGTH + 1];
static int asks_at[VARIANTS]; /* where the asks begin */

/* Fill `levels_of`: rising distances from the best price, one level a side deleted in even variants
 * and put back in odd ones, never crossing, and always of the same length. */
static inline void make_variants(void) {
    const int room = LEVELS_LENGTH - 2 * (CHANGES - 1) - 2 * CHANGES * 15; /* for the sizes */
    uint64_t random = 20240229;
    for (int v = 0; v < VARIANTS; v++) {
        int deleted = v % 2 == 0 ? 1 : 0, regular = 2 * (CHANGES - deleted), written = 0;
        char *at = levels_of[v], size[16];
        for (int side = 0; side < 2; side++) {
            int index = -1;
            if (side) asks_at[v] = (int)(at - levels_of[v]);
            for (int i = 0; i < CHANGES; i++) {
                int is_last = i == CHANGES - 1;
                index = is_last ? 49 : index + 1 + (int)(next_random(&random) % 5);
                if (is_last && deleted) {
                    strcpy(size, "0");
                } else {
                    int shared = room - 2 * deleted;
                    make_size(size, shared / regular + (written < shared % regular), &random);
                    written++;
                }
                if (i) *at++ = ',';
                at = put_level(at, side == 0, index, size);
            }
        }
    }
}

typedef struct {
    char name[48];
    char symbol[32];
    int depth;
    uint64_t u;
} Topic;

/* Return whether `name` (of `length` bytes) is an order book topic, and take it apart. */
static inline int parse_topic(Topic *topic, const char *name, size_t length) {
    if (length >= sizeof topic->name || length < 11 || memcmp(name, "orderbook.", 10)) return 0;
    memcpy(topic->name, name, length);
    topic->name[length] = 0;
    char *dot = strchr(topic->name + 10, '.');
    if (!dot || strlen(dot + 1) >= sizeof topic->symbol) return 0;
    topic->depth = atoi(topic->name + 10);
    strcpy(topic->symbol, dot + 1);
    topic->u = FIRST_UPDATE_ID;
    return topic->depth > 0;
}

/* Write the next delta of a topic, made at `made` (CLOCK_MONOTONIC, ns). */
static inline char *put_delta(char *at, Topic *topic, uint64_t made) {
    uint64_t now = wall_ms();
    int v = (int)(++topic->u % VARIANTS);
    at = put_text(put_text(at, "{\"topic\":\""), topic->name);
    at = put_digits(put_text(at, "\",\"type\":\"delta\",\"ts\":"), now, 13);
    at = put_digits(put_text(at, ",\"ns\":"), NS_BASE + made, 19);
    at = put_text(put_text(at, ",\"data\":{\"s\":\""), topic->symbol);
    at = put_text(at, "\",\"b\":[");
    memcpy(at, levels_of[v], (size_t)asks_at[v]);
    at = put_text(at + asks_at[v], "],\"a\":[");
    memcpy(at, levels_of[v] + asks_at[v], (size_t)(LEVELS_LENGTH - asks_at[v]));
    at = put_digits(put_text(at + LEVELS_LENGTH - asks_at[v], "],\"u\":"), topic->u, 8);
    at = put_digits(put_text(at, ",\"seq\":"), FIRST_SEQ + topic->u, 11);
    return put_text(put_digits(put_text(at, "},\"cts\":"), now, 13), "}");
}

/* Write the state of a topic: `depth` levels a side. It needs 64 bytes for each. */
static inline char *put_snapshot(char *at, const Topic *topic) {
    uint64_t now = wall_ms(), random = topic->u;
    at += sprintf(at, "{\"topic\":\"%s\",\"type\":\"snapshot\",\"ts\":%llu,\"data\":{\"s\":\"%s\"",
                  topic->name, (unsigned long long)now, topic->symbol);
    for (int side = 0; side < 2; side++) {
        at = put_text(at, side ? "],\"a\":[" : ",\"b\":[");
        for (int i = 0; i < topic->depth; i++) {
            char size[16];
            make_size(size, 5, &random);
            if (i) *at++ = ',';
            at = put_level(at, side == 0, i, size);
        }
    }
    return at + sprintf(at, "],\"u\":%llu,\"seq\":%llu},\"cts\":%llu}", (unsigned long long)topic->u,
                        (unsigned long long)(FIRST_SEQ + topic->u), (unsigned long long)now);
}

/* ---- sockets ---- */

static inline void raise_file_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static inline void make_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Listen on loopback; print the port that was taken. */
static inline int listen_on_loopback(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 8192)) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    make_nonblocking(fd);
    return fd;
}

static inline void watch(int epoll, int fd, uint32_t events, uint64_t key) {
    struct epoll_event event = {.events = events, .data.u64 = key};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* Have a timer fire every `ns` from now on; 0 stops it. */
static inline void set_timer(int timer, uint64_t ns) {
    struct timespec every = {(time_t)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    struct itimerspec spec = {every, every};
    timerfd_settime(timer, 0, &spec, NULL);
}

/* Read a command line of the driver without waiting; NULL if there is none, exit at the end. */
static inline char *read_command(void) {
    static char line[256];
    ssize_t got = read(0, line, sizeof line - 1);
    if (got == 0) exit(0); /* the driver is gone */
    if (got < 0) return NULL;
    line[got] = 0;
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* ---- the handshake of a server (RFC 6455, section 4.2.2) ---- */

static inline uint32_t rotate(uint32_t x, int n) { return (x << n) | (x >> (32 - n)); }

/* SHA-1 of fewer than 120 bytes. */
static inline void sha1(const char *text, size_t length, unsigned char out[20]) {
    unsigned char block[128] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t total = length < 56 ? 64 : 128;
    memcpy(block, text, length);
    block[length] = 0x80;
    for (int i = 0; i < 4; i++) block[total - 1 - (size_t)i] = (unsigned char)(length * 8 >> (8 * i));
    for (size_t start = 0; start < total; start += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = block + start + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Write the answer to an upgrade request; return its length, 0 if the request has no key. */
static inline size_t accept_upgrade(const char *request, char *answer) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *key = strcasestr(request, "sec-websocket-key:");
    char text[96];
    unsigned char hash[21] = {0};
    if (!key) return 0;
    key += strspn(key + 18, " ") + 18;
    int length = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, (size_t)length, hash);
    char token[32], *at = token;
    for (int i = 0; i < 21; i += 3) {
        uint32_t three = (uint32_t)hash[i] << 16 | (uint32_t)hash[i + 1] << 8 | hash[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) *at++ = digits[three >> shift & 63];
    }
    token[27] = '=';
    token[28] = 0;
    return (size_t)sprintf(answer,
                           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                           token);
}

#endif
