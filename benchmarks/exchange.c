/* A fake Bybit: acknowledges subscriptions, sends a snapshot and then deltas at a given rate.
 *
 * It keeps no book: its deltas change prices around 60,000 and continue in `u`, which is all that a
 * relay can check. Every message is made at its time, waits in the connection's buffer if the
 * peer does not read, and is counted as held when that buffer is full: then the peer is too slow.
 *
 * usage: exchange [port]; then on stdin: `rate N` (messages a second over all topics), `report`.
 */
#include "wire.h"

#define MAX_CONNECTIONS 64
#define MAX_TOPICS 8192
#define OUT_LIMIT (16 << 20)               /* bytes that may wait for one connection */
#define ROOM_FOR_ONE 2048                  /* bytes: more than any delta */
#define SHORTEST_TICK (NS_PER_SECOND / 2000) /* above 2,000 messages a second they share a tick */
#define LISTENER 1000
#define TIMER 1001
#define COMMANDS 1002

typedef struct {
    int fd, is_open, writable_is_watched;
    char *in, *out;
    size_t in_used, out_start, out_end;
} Connection;

typedef struct {
    Topic topic;
    int connection; /* -1: not used any more */
} Subscription;

static Connection connections[MAX_CONNECTIONS];
static Subscription subscriptions[MAX_TOPICS];
static int topics_used, next_topic, epoll, timer;
static uint64_t rate, started, due_before, sent, held;

static const size_t in_limit = 1 << 20;
static const size_t out_capacity = OUT_LIMIT + (1 << 20);

static void drop(Connection *c) {
    close(c->fd);
    c->fd = -1;
    for (int i = 0; i < topics_used; i++)
        if (subscriptions[i].connection == c - connections) subscriptions[i].connection = -1;
}

static void flush(Connection *c) {
    if (c->fd < 0) return;
    while (c->out_start < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_start, c->out_end - c->out_start, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) {
            drop(c);
            return;
        }
        c->out_start += (size_t)n;
    }
    if (c->out_start == c->out_end) c->out_start = c->out_end = 0;
    int wanted = c->out_end > 0;
    if (wanted != c->writable_is_watched) {
        struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0),
                                    .data.u64 = (uint64_t)(c - connections)};
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
        c->writable_is_watched = wanted;
    }
}

/* Make room for `size` bytes; NULL if too much is waiting. */
static char *room(Connection *c, size_t size) {
    if (c->out_end - c->out_start + size > OUT_LIMIT) return NULL;
    if (c->out_end + size > out_capacity) {
        memmove(c->out, c->out + c->out_start, c->out_end - c->out_start);
        c->out_end -= c->out_start;
        c->out_start = 0;
    }
    return c->out + c->out_end;
}

static void say(Connection *c, const char *text, size_t length) {
    char *at = room(c, length + 10);
    if (!at) return;
    at = put_frame_header(at, length);
    memcpy(at, text, length);
    c->out_end = (size_t)(at + length - c->out);
}

/* ---- what the relay says ---- */

static void subscribe(Connection *c, const char *name, size_t length) {
    static char snapshot[1 << 18];
    int slot = 0;
    while (slot < topics_used && subscriptions[slot].connection >= 0) slot++;
    if (slot == MAX_TOPICS) return;
    Subscription *s = subscriptions + slot;
    if (!parse_topic(&s->topic, name, length) || s->topic.depth > 1000) return;
    s->connection = (int)(c - connections);
    if (slot == topics_used) topics_used++;
    say(c, snapshot, (size_t)(put_snapshot(snapshot, &s->topic) - snapshot));
}

static void unsubscribe(Connection *c, const char *name, size_t length) {
    for (int i = 0; i < topics_used; i++) {
        Subscription *s = subscriptions + i;
        if (s->connection == c - connections && strlen(s->topic.name) == length &&
            !memcmp(s->topic.name, name, length))
            s->connection = -1;
    }
}

/* Answer one request. The text is known to come from the relays of the bench. */
static void request(Connection *c, char *text) {
    char op[16] = "", id[64] = "", answer[256];
    char *at = strstr(text, "\"op\":");
    if (at) sscanf(at + 5, " \"%15[^\"]", op);
    at = strstr(text, "\"req_id\":");
    if (at) sscanf(at + 9, " \"%63[^\"]", id);
    int is_ping = !strcmp(op, "ping"), length;
    length = snprintf(answer, sizeof answer,
                      "{\"success\":true,\"ret_msg\":\"%s\",\"conn_id\":\"bench\",\"req_id\":\"%s\","
                      "\"op\":\"%s\"}",
                      is_ping ? "pong" : "", id, op);
    say(c, answer, (size_t)length);
    int is_subscribe = !strcmp(op, "subscribe");
    for (at = text; !is_ping && (at = strstr(at, "\"orderbook.")); at++) {
        size_t size = strcspn(++at, "\"");
        if (is_subscribe) subscribe(c, at, size);
        else unsubscribe(c, at, size);
        at += size;
    }
}

/* Take one frame out of the buffer; return the bytes it had, 0 if it is not complete. */
static size_t frame(Connection *c, char *at, size_t have) {
    if (have < 6) return 0;
    size_t length = at[1] & 127, header = 6;
    if (length == 126) {
        header = 8;
        length = (size_t)(unsigned char)at[2] << 8 | (unsigned char)at[3];
    } else if (length == 127) {
        drop(c); /* no relay needs 64 KiB for a request */
        return 0;
    }
    if (have < header + length) return 0;
    char *text = at + header, *mask = text - 4, after = text[length];
    for (size_t i = 0; i < length; i++) text[i] ^= mask[i % 4];
    int opcode = at[0] & 15;
    text[length] = 0;
    if (opcode == 1) request(c, text);
    text[length] = after;
    if (opcode == 8) drop(c);
    if (opcode == 9) {
        char *pong = room(c, length + 10);
        if (pong) {
            char *end = put_frame_header(pong, length);
            *pong = (char)0x8a;
            memcpy(end, text, length);
            c->out_end = (size_t)(end + length - c->out);
        }
    }
    return header + length;
}

static void receive(Connection *c) {
    ssize_t n = recv(c->fd, c->in + c->in_used, in_limit - c->in_used, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->in_used += (size_t)n;
    c->in[c->in_used] = 0;
    size_t start = 0;
    if (!c->is_open) {
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return;
        start = (size_t)(end + 4 - c->in);
        c->out_end += accept_upgrade(c->in, c->out + c->out_end);
        c->is_open = 1;
    }
    while (c->fd >= 0 && start < c->in_used) {
        size_t taken = frame(c, c->in + start, c->in_used - start);
        if (!taken) break;
        start += taken;
    }
    memmove(c->in, c->in + start, c->in_used - start);
    c->in_used -= start;
    flush(c);
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        int slot = 0;
        while (slot < MAX_CONNECTIONS && connections[slot].fd >= 0) slot++;
        if (slot == MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        Connection *c = connections + slot;
        if (!c->in) c->in = allocate(in_limit + 1), c->out = allocate(out_capacity + (1 << 18));
        *c = (Connection){.fd = fd, .in = c->in, .out = c->out};
        make_nonblocking(fd);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, fd, EPOLLIN, (uint64_t)slot);
    }
}

/* ---- what the exchange says ---- */

/* Make the next message of the next topic that is subscribed; 0 if there is none. */
static int publish_one(uint64_t now) {
    for (int tried = 0; tried < topics_used; tried++) {
        if (next_topic >= topics_used) next_topic = 0;
        Subscription *s = subscriptions + next_topic++;
        if (s->connection < 0) continue;
        Connection *c = connections + s->connection;
        char *at = room(c, ROOM_FOR_ONE);
        if (!at) {
            held++;
            return 1;
        }
        static char text[ROOM_FOR_ONE];
        size_t length = (size_t)(put_delta(text, &s->topic, now) - text);
        at = put_frame_header(at, length);
        memcpy(at, text, length);
        c->out_end = (size_t)(at + length - c->out);
        sent++;
        return 1;
    }
    return 0;
}

static void publish(void) {
    uint64_t fired, now = monotonic_ns();
    if (read(timer, &fired, sizeof fired) < 0) return;
    uint64_t due = (uint64_t)((double)(now - started) * (double)rate / 1e9);
    while (due_before < due && publish_one(now)) due_before++;
    due_before = due;
    for (int i = 0; i < MAX_CONNECTIONS; i++)
        if (connections[i].fd >= 0 && connections[i].out_end) flush(connections + i);
}

static void command(void) {
    char *line = read_command();
    if (!line) return;
    if (!strncmp(line, "rate ", 5)) {
        rate = strtoull(line + 5, NULL, 10);
        started = monotonic_ns();
        due_before = 0;
        uint64_t every = rate ? NS_PER_SECOND / rate : 0;
        set_timer(timer, rate && every < SHORTEST_TICK ? SHORTEST_TICK : every);
    }
    uint64_t sum_of_u = 0;
    int live = 0;
    for (int i = 0; i < topics_used; i++) {
        if (subscriptions[i].connection < 0) continue;
        live++;
        sum_of_u += subscriptions[i].topic.u;
    }
    printf("{\"topics\": %d, \"sent\": %llu, \"held\": %llu, \"sum_of_u\": %llu}\n", live,
           (unsigned long long)sent, (unsigned long long)held, (unsigned long long)sum_of_u);
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct epoll_event events[64];
    make_variants();
    for (int i = 0; i < MAX_CONNECTIONS; i++) connections[i].fd = -1;
    int listener = listen_on_loopback(argc > 1 ? atoi(argv[1]) : 0);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(epoll, listener, EPOLLIN, LISTENER);
    watch(epoll, timer, EPOLLIN, TIMER);
    watch(epoll, 0, EPOLLIN, COMMANDS);
    for (;;) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            uint64_t key = events[i].data.u64;
            if (key == LISTENER) accept_all(listener);
            else if (key == TIMER) publish();
            else if (key == COMMANDS) command();
            else if (connections[key].fd < 0) continue;
            else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(connections + key);
            else flush(connections + key);
        }
    }
}
