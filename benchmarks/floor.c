/* The floor: what the kernel asks for the same bytes to the same clients.
 *
 * Accepts WebSocket clients and sends each the same frame at the given rate, by one `send` a
 * client and message, or by one for several messages. It reads nothing and keeps nothing.
 *
 * usage: floor [port]; then on stdin: `rate N [messages that share a write]`, `report`.
 */
#include "wire.h"

#define MAX_CLIENTS 20000
#define MAX_SHARED 64
#define LISTENER 1000000
#define TIMER 1000001
#define COMMANDS 1000002

static int clients[MAX_CLIENTS], client_count, epoll, timer;
static int shared = 1; /* messages in one write */
static uint64_t rate, started, due_before, sent, cut;
static Topic topic;

/* Finish the handshake of a client; what it says afterwards is read and forgotten. */
static void receive(int fd) {
    char text[4096], answer[512];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        for (int i = 0; i < client_count; i++)
            if (clients[i] == fd) clients[i] = clients[--client_count];
        close(fd);
        return;
    }
    text[n] = 0;
    if (strncmp(text, "GET ", 4) || client_count == MAX_CLIENTS) return;
    size_t length = accept_upgrade(text, answer);
    if (send(fd, answer, length, MSG_NOSIGNAL) == (ssize_t)length) clients[client_count++] = fd;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        make_nonblocking(fd);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, fd, EPOLLIN, (uint64_t)fd);
    }
}

/* Send what is due to everybody. A client whose socket is full is cut: the floor keeps nothing. */
static void publish(void) {
    static char frames[MAX_SHARED * (MESSAGE_LENGTH + 64)];
    uint64_t fired, now = monotonic_ns();
    if (read(timer, &fired, sizeof fired) < 0) return;
    uint64_t due = (uint64_t)((double)(now - started) * (double)rate / 1e9);
    while (due_before + (uint64_t)shared <= due) {
        char *at = frames, message[MESSAGE_LENGTH + 64];
        for (int i = 0; i < shared; i++) {
            size_t length = (size_t)(put_delta(message, &topic, now) - message);
            at = put_frame_header(at, length);
            memcpy(at, message, length);
            at += length;
        }
        for (int i = 0; i < client_count; i++) {
            if (send(clients[i], frames, (size_t)(at - frames), MSG_NOSIGNAL) != at - frames) {
                cut++;
                close(clients[i]);
                clients[i--] = clients[--client_count];
            }
        }
        due_before += (uint64_t)shared;
        sent += (uint64_t)shared;
        now = monotonic_ns();
    }
}

static void command(void) {
    char *line = read_command();
    unsigned long long new_rate;
    int new_shared = 1;
    if (!line) return;
    if (sscanf(line, "rate %llu %d", &new_rate, &new_shared) >= 1) {
        rate = new_rate;
        shared = new_shared < MAX_SHARED ? new_shared : MAX_SHARED;
        started = monotonic_ns();
        due_before = 0;
        set_timer(timer, rate ? NS_PER_SECOND * (uint64_t)shared / rate : 0);
    }
    printf("{\"topics\": 1, \"sent\": %llu, \"held\": 0, \"cut\": %llu, \"sum_of_u\": %llu}\n",
           (unsigned long long)sent, (unsigned long long)cut, (unsigned long long)topic.u);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const char name[] = "orderbook.50.BTCUSDT";
    struct epoll_event events[256];
    raise_file_limit();
    make_variants();
    parse_topic(&topic, name, sizeof name - 1);
    int listener = listen_on_loopback(argc > 1 ? atoi(argv[1]) : 0);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(epoll, listener, EPOLLIN, LISTENER);
    watch(epoll, timer, EPOLLIN, TIMER);
    watch(epoll, 0, EPOLLIN, COMMANDS);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            uint64_t key = events[i].data.u64;
            if (key == LISTENER) accept_all(listener);
            else if (key == TIMER) publish();
            else if (key == COMMANDS) command();
            else receive((int)key);
        }
    }
}
