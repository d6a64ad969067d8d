/* What a gateway could reach: events come in by POST, one each, are made durable together, and are
   sent to every socket in one write.

   joining --port P --journal FILE --flush-ms F

   A connection whose first request is a POST is a producer's, any other a subscriber's (WebSocket
   or SSE by its request). What the producers have sent is written to the journal and synced, all of
   it with one fdatasync, and only then answered with 201. Bodies are framed as they came; what came
   within F ms is sent once per socket. There are no keys, limits, filters or cursors, nothing is
   checked, and sockets of subscribers block: a slow reader slows everyone, which shows as latency. */
#define _GNU_SOURCE
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MOST 65536

struct buffer {
    char *bytes;
    size_t size, room;
};
struct connection {
    int fd, owed; /* answers, once the journal is synced */
    bool known, producer;
    struct buffer in;
};

static int subscribers[MOST], subscriber_count, listener, poller, journal;
static bool websocket;
static struct connection *owing[MOST];
static int owing_count;
static struct buffer frames, written;

static void append(struct buffer *b, const void *bytes, size_t size) {
    if (b->room < b->size + size) b->bytes = must(realloc(b->bytes, b->room = (b->size + size) * 2));
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void watch(int fd, void *what) {
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = what};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted)) die("epoll_ctl");
}

static void welcome(void) {
    int on = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = must(calloc(1, sizeof *c));
    c->fd = fd;
    watch(fd, c);
}

static void drop(struct connection *c) {
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    for (int i = 0; i < owing_count; i++)
        if (owing[i] == c) owing[i--] = owing[--owing_count];
    free(c->in.bytes);
    free(c);
}

/* Answers a subscriber and keeps its socket; nothing more is read from it. */
static void subscribe(struct connection *c) {
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Accept: none\r\n\r\n";
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n";
    websocket = strcasestr(c->in.bytes, "upgrade: websocket") != NULL;
    if (websocket) send(c->fd, upgrade, sizeof upgrade - 1, MSG_NOSIGNAL);
    else send(c->fd, stream, sizeof stream - 1, MSG_NOSIGNAL);
    if (subscriber_count == MOST) die("too many subscribers");
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    subscribers[subscriber_count++] = c->fd;
    free(c->in.bytes);
    free(c);
}

static void frame(const char *event, size_t size) {
    char head[32];
    if (websocket) {
        char begin[4] = {(char)0x81, 126, (char)(size >> 8), (char)size};
        append(&frames, begin, 4);
        append(&frames, event, size);
    } else {
        append(&frames, head, (size_t)sprintf(head, "%zx\r\ndata: ", size + 8));
        append(&frames, event, size);
        append(&frames, "\n\n\r\n", 4);
    }
}

/* Takes all whole requests of a producer. */
static void take(struct connection *c) {
    size_t at = 0;
    append(&c->in, "", 1), c->in.size--; /* ends as a string */
    for (;;) {
        char *begin = c->in.bytes + at, *end = strstr(begin, "\r\n\r\n");
        char *length = end ? strcasestr(begin, "content-length:") : NULL;
        if (!length) break;
        size_t size = strtoul(length + 15, NULL, 10), head = (size_t)(end + 4 - begin);
        if (at + head + size > c->in.size) break;
        append(&written, end + 4, size);
        append(&written, "\n", 1);
        frame(end + 4, size);
        if (!c->owed++) owing[owing_count++] = c;
        at += head + size;
    }
    memmove(c->in.bytes, c->in.bytes + at, c->in.size -= at);
}

static void receive(struct connection *c) {
    char bytes[65536];
    ssize_t size = recv(c->fd, bytes, sizeof bytes, 0);
    if (size <= 0) return drop(c);
    append(&c->in, bytes, (size_t)size);
    if (!c->known) {
        append(&c->in, "", 1), c->in.size--;
        if (!strstr(c->in.bytes, "\r\n\r\n")) return;
        c->known = true;
        c->producer = !strncmp(c->in.bytes, "POST ", 5);
        if (!c->producer) return subscribe(c);
    }
    take(c);
}

static void make_durable(void) {
    static const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    static struct buffer answers;
    if (write(journal, written.bytes, written.size) != (ssize_t)written.size) die("write");
    if (fdatasync(journal)) die("fdatasync");
    written.size = 0;
    while (owing_count) {
        struct connection *c = owing[--owing_count];
        for (answers.size = 0; c->owed; c->owed--) append(&answers, answer, sizeof answer - 1);
        send(c->fd, answers.bytes, answers.size, MSG_NOSIGNAL);
    }
}

static void send_all(void) {
    for (int i = 0; i < subscriber_count; i++) {
        size_t sent = 0;
        while (sent < frames.size) {
            ssize_t n = send(subscribers[i], frames.bytes + sent, frames.size - sent, MSG_NOSIGNAL);
            if (n <= 0) { /* the reader left: the last one takes its place */
                close(subscribers[i]);
                subscribers[i--] = subscribers[--subscriber_count];
                break;
            }
            sent += (size_t)n;
        }
    }
    frames.size = 0;
}

int main(int argc, char **argv) {
    begin_program();
    int on = 1;
    uint64_t flush = (uint64_t)(atof(option(argc, argv, "--flush-ms", "0")) * 1e6), due = 0;
    journal = open(option(argc, argv, "--journal", NULL), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (journal < 0) die("journal");
    struct sockaddr_in here = {.sin_family = AF_INET};
    here.sin_port = htons((uint16_t)atoi(option(argc, argv, "--port", NULL)));
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) die("bind");
    poller = epoll_create1(0);
    watch(listener, NULL);
    printf("{\"ready\":0}\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[256];
        uint64_t now = now_ns();
        int wait = !frames.size ? 1000 : due <= now ? 0 : (int)((due - now) / 1000000 + 1);
        int count = epoll_wait(poller, ready, 256, wait);
        for (int i = 0; i < count; i++)
            if (ready[i].data.ptr) receive(ready[i].data.ptr);
            else welcome();
        if (written.size) make_durable();
        if (frames.size && now_ns() >= due) {
            send_all();
            due = now_ns() + flush;
        }
    }
}
