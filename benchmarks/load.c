/* The load: many WebSocket clients in one thread, cheap enough not to be what is measured.
 *
 * Each client connects, subscribes and counts. Every market message is checked: its update id `u`
 * must follow the client's last one. Latency is the time from `ns` in the message (see wire.h) to
 * the return of the `recv` that brought it. Compressed messages are counted, not inflated; clients
 * that offer no compression can run beside them for the latency.
 *
 * Results are JSON, one object a line: first when every client is ready, then for each command on
 * stdin: `start` begins a window, `stop` ends it, `report` tells what was received since the start.
 */
#include "wire.h"

#include <getopt.h>

#define RECV_SIZE (256 << 10)
#define CARRY_LIMIT (4 << 20)
#define IN_FLIGHT 64   /* connects at a time, without --storm */
#define SLOW_TICK 20   /* reads a second of a slow client */
#define HEAD 160       /* bytes of a message in which its `type` is looked for */
#define COMMANDS UINT64_MAX
#define MAX_PORTS 8

enum State { IDLE, CONNECTING, UPGRADING, WAITING, READY, CLOSED };
enum Kind { READER, STALLED, SLOW, PROBE };

typedef struct {
    int fd;
    uint8_t state, kind, offers_deflate, has_deflate, in_epoll;
    uint16_t close_code;
    uint32_t carry_used, carry_size;
    char *carry; /* the beginning of a frame whose end has not come */
    uint64_t connected, asked, acked; /* ns; 0: not yet */
    uint64_t last_u;
    uint64_t messages;
} Client;

#define SUB_BITS 6
#define BUCKETS (40 << SUB_BITS)

typedef struct {
    uint64_t count, highest, buckets[BUCKETS];
} Histogram;

static struct {
    const char *path, *subscribe[8], *probe_subscribe;
    int ports[MAX_PORTS], port_count; /* the clients are dealt out to them in turn */
    int clients, stalled, slow, slow_rate, deflate, probes, probe_every, subscribes;
    int wants_greeting, is_storm, is_mixed; /* is_mixed: several topics a client, so no one `u` */
} options = {.path = "/", .slow_rate = 32768, .probe_every = 10};

static Client *clients;
static int client_count, epoll, next_connect, in_flight, ready, closed, failed, has_told_ready;
static int probes_done, next_probe;
static uint64_t begun, all_ready_at, next_slow, next_probe_at, window_start, window_end;
static uint64_t lost, repeated, conflated; /* since the beginning */
static struct {
    uint64_t delivered, snapshots, bytes, deflate_frames, deflate_bytes, reads;
} window;
static Histogram latency, ready_times, probe_times, probe_after_ack;

/* ---- histograms: 64 steps an octave, so within 1.6 % ---- */

static void record(Histogram *h, uint64_t ns) {
    uint64_t value = ns < (1 << SUB_BITS) ? (1 << SUB_BITS) : ns;
    int octave = 63 - __builtin_clzll(value) - SUB_BITS;
    size_t at = ((size_t)octave << SUB_BITS) + ((value >> octave) & ((1 << SUB_BITS) - 1));
    h->buckets[at < BUCKETS ? at : BUCKETS - 1]++;
    h->count++;
    if (ns > h->highest) h->highest = ns;
}

static double quantile_ms(const Histogram *h, double q) {
    uint64_t seen = 0, wanted = (uint64_t)(q * (double)h->count);
    for (size_t at = 0; at < BUCKETS; at++) {
        seen += h->buckets[at];
        if (seen > wanted) {
            int octave = (int)(at >> SUB_BITS);
            uint64_t low = ((at & ((1 << SUB_BITS) - 1)) | (1 << SUB_BITS));
            return (double)((low << octave) + (1ULL << octave) / 2) / 1e6;
        }
    }
    return (double)h->highest / 1e6;
}

static void print_histogram(const char *name, const Histogram *h) {
    if (!h->count) {
        printf("\"%s\": null", name);
        return;
    }
    printf("\"%s\": {\"count\": %llu, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p999\": %.3f, "
           "\"max\": %.3f}",
           name, (unsigned long long)h->count, quantile_ms(h, .5), quantile_ms(h, .9),
           quantile_ms(h, .99), quantile_ms(h, .999), (double)h->highest / 1e6);
}

/* ---- one client ---- */

static void say(Client *c, int opcode, const char *text, size_t length) {
    char frame[4096], *at = frame; /* masked with zeros, which leaves the text as it is */
    if (length > sizeof frame - 16) return;
    *at++ = (char)(0x80 | opcode);
    if (length < 126) {
        *at++ = (char)(0x80 | length);
    } else {
        *at++ = (char)(0x80 | 126);
        *at++ = (char)(length >> 8);
        *at++ = (char)length;
    }
    memset(at, 0, 4);
    memcpy(at + 4, text, length);
    if (send(c->fd, frame, (size_t)(at + 4 - frame) + length, MSG_NOSIGNAL) < 0)
        return; /* the next `recv` finds out */
}

static int number_of(const Client *c) { return (int)(c - clients); }

static int port_of(const Client *c) { return options.ports[number_of(c) % options.port_count]; }

/* Send a subscribe; `%` in the text becomes the client's number among those of its server. */
static void subscribe(Client *c, const char *text) {
    char filled[3800], *at = filled;
    for (; *text && at < filled + sizeof filled - 8; text++) {
        if (*text == '%') at += sprintf(at, "%04d", number_of(c) / options.port_count);
        else *at++ = *text;
    }
    c->asked = monotonic_ns();
    say(c, 1, filled, (size_t)(at - filled));
}

static void forget(Client *c, int was_ready) {
    if (c->fd < 0) return;
    struct linger abort_at_once = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abort_at_once, sizeof abort_at_once);
    close(c->fd);
    c->fd = -1;
    if (!was_ready && c->state != READY) in_flight--, failed++;
    c->state = CLOSED;
    free(c->carry);
    c->carry = NULL;
}

static void connect_one(Client *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(c))};
    int one = 1, small = 65536;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->kind == STALLED || c->kind == SLOW) /* so that the kernel does not hide them for long */
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    in_flight++;
    c->state = CONNECTING;
    c->connected = monotonic_ns();
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        forget(c, 0);
        return;
    }
    watch(epoll, c->fd, EPOLLIN | EPOLLOUT, (uint64_t)(c - clients));
    c->in_epoll = 1;
}

static void unwatch(Client *c) {
    if (c->in_epoll) epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    c->in_epoll = 0;
}

static void upgrade(Client *c) {
    char request[1024];
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(c - clients)};
    int length = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        options.path, port_of(c),
        c->offers_deflate
            ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            : "");
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        forget(c, 0);
        return;
    }
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->state = UPGRADING;
}

static void become_ready(Client *c, uint64_t now) {
    c->state = READY;
    in_flight--;
    ready++;
    if (c->kind != PROBE) record(&ready_times, now - (options.is_storm ? begun : c->connected));
    if (c->kind == STALLED || c->kind == SLOW) unwatch(c);
}

/* ---- what is received ---- */

static uint64_t digits(const char *at) {
    uint64_t value = 0;
    while (*at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at++ - '0');
    return value;
}

static void snapshot(Client *c, const char *text, size_t length, uint64_t now) {
    const char *tail = length > 128 ? text + length - 128 : text; /* `u` is behind the levels */
    const char *at = memmem(tail, (size_t)(text + length - tail), "\"u\":", 4);
    uint64_t u = at ? digits(at + 4) : 0;
    window.snapshots++;
    if (c->kind == READER && c->last_u && !options.is_mixed && u > c->last_u)
        conflated += u - c->last_u;
    if (u >= c->last_u) c->last_u = u;
    if (c->kind == PROBE) {
        record(&probe_times, now - c->asked);
        if (c->acked) record(&probe_after_ack, now - c->acked);
        probes_done++;
        forget(c, 1);
    } else if (c->state == WAITING) {
        become_ready(c, now);
    }
}

static void market_message(Client *c, const char *text, size_t length, uint64_t now) {
    static size_t known_length, ns_at, u_at; /* where the keys were in the last message */
    if (length != known_length || memcmp(text + ns_at, "\"ns\":", 5) ||
        memcmp(text + u_at, "\"u\":", 4)) {
        size_t head = length < HEAD ? length : HEAD;
        if (memmem(text, head, "\"type\":\"snapshot\"", 17)) {
            snapshot(c, text, length, now);
            return;
        }
        const char *ns = memmem(text, length, "\"ns\":", 5), *u = memmem(text, length, "\"u\":", 4);
        if (!ns || !u) return;
        known_length = length;
        ns_at = (size_t)(ns - text);
        u_at = (size_t)(u - text);
    }
    uint64_t made = digits(text + ns_at + 5) - NS_BASE, u = digits(text + u_at + 4);
    c->messages++;
    if (!options.is_mixed) {
        if (u <= c->last_u) repeated++;
        else if (c->last_u && u != c->last_u + 1) lost += u - c->last_u - 1;
        if (u > c->last_u) c->last_u = u;
    }
    if (c->kind != READER) return;
    window.delivered++;
    if (window_start && !window_end) record(&latency, now > made ? now - made : 0);
}

static void data_frame(Client *c, const char *text, size_t length, int is_compressed, uint64_t now) {
    if (is_compressed) { /* a message, an ack or a snapshot: only counted */
        if (c->state == WAITING) become_ready(c, now);
        c->messages++;
        window.deflate_frames++;
        window.deflate_bytes += length;
    } else if (length > 10 && !memcmp(text, "{\"topic\":\"", 10)) {
        market_message(c, text, length, now);
    } else if (c->asked && !c->acked) {
        c->acked = now;
    }
}

/* Take one frame; return the bytes it had, 0 if it is not complete. */
static size_t frame(Client *c, const char *at, size_t have, uint64_t now) {
    if (have < 2) return 0;
    uint64_t length = (unsigned char)at[1] & 127;
    size_t header = 2;
    if (length == 126) {
        if (have < 4) return 0;
        header = 4;
        length = (uint64_t)(unsigned char)at[2] << 8 | (unsigned char)at[3];
    } else if (length == 127) {
        if (have < 10) return 0;
        header = 10;
        length = 0;
        for (int i = 2; i < 10; i++) length = length << 8 | (unsigned char)at[i];
    }
    if (have < header + length) return 0;
    switch (at[0] & 15) {
    case 1:
    case 2:
        data_frame(c, at + header, length, at[0] & 0x40, now);
        break;
    case 8:
        c->close_code = length >= 2 ? (uint16_t)((unsigned char)at[header] << 8 |
                                                 (unsigned char)at[header + 1])
                                    : 1005;
        break;
    case 9:
        say(c, 10, at + header, length);
        break;
    }
    return header + length;
}

/* Read the answer to the handshake; return its length, 0 if it is not complete. */
static size_t upgraded(Client *c, char *text, size_t length, uint64_t now) {
    text[length] = 0;
    char *end = strstr(text, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(text, "HTTP/1.1 101", 12)) {
        forget(c, 0);
        return 0;
    }
    *end = 0;
    c->has_deflate = strcasestr(text, "permessage-deflate") != NULL;
    c->state = WAITING;
    if (c->kind == PROBE) {
        become_ready(c, now);
    } else {
        for (int i = 0; i < options.subscribes; i++) subscribe(c, options.subscribe[i]);
        if (!options.wants_greeting || !options.subscribes) become_ready(c, now);
    }
    return (size_t)(end + 4 - text);
}

/* Read up to `limit` bytes of a client. */
static void receive(Client *c, size_t limit) {
    static char buffer[CARRY_LIMIT + RECV_SIZE + 1];
    size_t used = c->carry_used, start = 0;
    if (used) memcpy(buffer, c->carry, used);
    ssize_t n = recv(c->fd, buffer + used, limit, 0);
    if (n < 0 && errno == EAGAIN) return;
    uint64_t now = monotonic_ns();
    if (n <= 0) {
        closed += c->state == READY;
        forget(c, 0);
        return;
    }
    used += (size_t)n;
    window.bytes += (uint64_t)n;
    window.reads++;
    if (c->state == UPGRADING) start = upgraded(c, buffer, used, now);
    while (c->fd >= 0 && c->state >= WAITING && start < used) {
        size_t taken = frame(c, buffer + start, used - start, now);
        if (!taken) break;
        start += taken;
    }
    if (c->fd < 0) return;
    used -= start;
    if (used > c->carry_size) {
        if (used > CARRY_LIMIT) {
            fprintf(stderr, "a frame is longer than %d bytes\n", CARRY_LIMIT);
            exit(1);
        }
        c->carry_size = (uint32_t)(used < 1024 ? 1024 : used * 2);
        c->carry = realloc(c->carry, c->carry_size);
        if (!c->carry) die("realloc");
    }
    memcpy(c->carry ? c->carry : buffer, buffer + start, used);
    c->carry_used = (uint32_t)used;
}

static void on_event(Client *c, uint32_t events) {
    if (c->fd < 0) return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) forget(c, 0);
        else if (events & EPOLLOUT) upgrade(c);
    } else {
        receive(c, RECV_SIZE);
    }
}

/* ---- the driver ---- */

static void print_window(uint64_t now) {
    uint64_t sum_of_u = 0, to_slow = 0, fewest = UINT64_MAX, most = 0;
    int deflated = 0, checked = 0, code = 0;
    for (int i = 0; i < client_count; i++) {
        const Client *c = clients + i;
        deflated += c->has_deflate;
        if (c->close_code) code = c->close_code;
        if (c->kind == STALLED || c->kind == SLOW) to_slow += c->messages;
        if (c->kind == READER && c->has_deflate) {
            if (c->messages < fewest) fewest = c->messages;
            if (c->messages > most) most = c->messages;
        }
        if (c->kind != READER || c->has_deflate) continue;
        checked++;
        sum_of_u += c->last_u;
    }
    double seconds = (double)((window_end ? window_end : now) - window_start) / 1e9;
    printf("{\"seconds\": %.4f, \"ready\": %d, \"failed\": %d, \"closed\": %d, \"close_code\": %d, "
           "\"deflated\": %d, \"delivered\": %llu, \"snapshots\": %llu, \"bytes\": %llu, "
           "\"reads\": %llu, \"deflate_frames\": %llu, \"deflate_bytes\": %llu, \"lost\": %llu, "
           "\"repeated\": %llu, \"conflated\": %llu, \"to_slow\": %llu, \"checked\": %d, \"sum_of_u\": %llu, "
           "\"deflate_spread\": %llu, ",
           seconds, ready, failed, closed, code, deflated, (unsigned long long)window.delivered,
           (unsigned long long)window.snapshots, (unsigned long long)window.bytes,
           (unsigned long long)window.reads, (unsigned long long)window.deflate_frames,
           (unsigned long long)window.deflate_bytes, (unsigned long long)lost,
           (unsigned long long)repeated, (unsigned long long)conflated,
           (unsigned long long)to_slow, checked, (unsigned long long)sum_of_u,
           (unsigned long long)(most > fewest ? most - fewest : 0));
    print_histogram("latency", &latency);
    printf(", ");
    print_histogram("ready_times", &ready_times);
    printf(", ");
    print_histogram("probe", &probe_times);
    printf(", ");
    print_histogram("probe_after_ack", &probe_after_ack);
    printf(", \"all_ready_ms\": %.1f}\n",
           all_ready_at ? (double)(all_ready_at - begun) / 1e6 : -1.0);
    fflush(stdout);
}

static void command(void) {
    char *line = read_command();
    uint64_t now = monotonic_ns();
    if (!line) return;
    if (!strcmp(line, "start")) {
        memset(&window, 0, sizeof window);
        memset(&latency, 0, sizeof latency);
        window_start = now;
        window_end = 0;
        next_probe_at = now;
    } else if (!strcmp(line, "stop")) {
        window_end = now;
    }
    print_window(now);
}

static void connect_more(void) {
    int limit = options.is_storm ? client_count : IN_FLIGHT;
    while (next_connect < client_count && in_flight < limit) connect_one(clients + next_connect++);
    if (has_told_ready || ready + failed < client_count) return;
    has_told_ready = 1;
    all_ready_at = monotonic_ns();
    print_window(all_ready_at);
}

/* Let slow clients read a little, and the next probe subscribe. Return ms to the next time. */
static int do_what_is_due(void) {
    uint64_t now = monotonic_ns();
    if (options.slow && now >= next_slow) {
        next_slow = now + NS_PER_SECOND / SLOW_TICK;
        for (int i = 0; i < client_count; i++)
            if (clients[i].kind == SLOW && clients[i].state == READY && clients[i].fd >= 0)
                receive(clients + i, (size_t)(options.slow_rate / SLOW_TICK));
    }
    if (window_start && !window_end && next_probe < options.probes && now >= next_probe_at) {
        Client *c = clients + options.clients + next_probe++;
        next_probe_at += (uint64_t)options.probe_every * 1000000;
        if (c->state == READY && c->fd >= 0) subscribe(c, options.probe_subscribe);
    }
    if (options.probes) return 1;
    return options.slow ? 10 : -1;
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},        {"path", 1, 0, 'u'},      {"clients", 1, 0, 'n'},
        {"subscribe", 1, 0, 's'},   {"greeting", 0, 0, 'g'},  {"storm", 0, 0, 'b'},
        {"stalled", 1, 0, 'k'},     {"slow", 1, 0, 'l'},      {"slow-rate", 1, 0, 'r'},
        {"deflate", 1, 0, 'd'},     {"mixed", 0, 0, 'm'},     {"probes", 1, 0, 'q'},
        {"probe-every", 1, 0, 'e'}, {"probe-subscribe", 1, 0, 'x'},
        {0, 0, 0, 0}};
    int key;
    while ((key = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (key) {
        case 'p':
            if (options.port_count < MAX_PORTS) options.ports[options.port_count++] = atoi(optarg);
            break;
        case 'u': options.path = optarg; break;
        case 'n': options.clients = atoi(optarg); break;
        case 's':
            if (options.subscribes < 8) options.subscribe[options.subscribes++] = optarg;
            break;
        case 'g': options.wants_greeting = 1; break;
        case 'b': options.is_storm = 1; break;
        case 'k': options.stalled = atoi(optarg); break;
        case 'l': options.slow = atoi(optarg); break;
        case 'r': options.slow_rate = atoi(optarg); break;
        case 'd': options.deflate = atoi(optarg); break;
        case 'm': options.is_mixed = 1; break;
        case 'q': options.probes = atoi(optarg); break;
        case 'e': options.probe_every = atoi(optarg); break;
        case 'x': options.probe_subscribe = optarg; break;
        default: exit(2);
        }
    }
    if ((options.probes && !options.probe_subscribe) || !options.port_count) exit(2);
}

int main(int argc, char **argv) {
    static struct epoll_event events[1024];
    read_options(argc, argv);
    raise_file_limit();
    epoll = epoll_create1(0);
    watch(epoll, 0, EPOLLIN, COMMANDS);
    client_count = options.clients + options.probes;
    clients = allocate(sizeof *clients * (size_t)(client_count + 1));
    for (int i = 0; i < client_count; i++) {
        Client *c = clients + i;
        c->fd = -1;
        int from_end = options.clients - i; /* the last clients are the slow ones */
        c->kind = i >= options.clients                         ? PROBE
                  : from_end <= options.stalled                ? STALLED
                  : from_end <= options.stalled + options.slow ? SLOW
                                                               : READER;
        c->offers_deflate = i < options.deflate;
    }
    begun = monotonic_ns();
    for (;;) {
        connect_more();
        int n = epoll_wait(epoll, events, 1024, do_what_is_due());
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == COMMANDS) command();
            else on_event(clients + events[i].data.u64, events[i].events);
        }
    }
}
