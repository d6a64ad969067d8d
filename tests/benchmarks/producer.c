/* Posts events, at a given rate or as fast as they are answered.

   producer --port P --head FILE --events FILE [--connections C] [--window W] [--tick-us U]
            [--streamed 1]

   The head file holds the request up to and including "Content-Length: ". With --streamed it
   holds a whole head: each connection has one request, what would be a request otherwise is a
   chunk of its body, and lines of the answer say how many events are durable. The events file
   holds one JSON event per line, each with the mark of measure.h; event number i is line i
   modulo their number. Up to W requests wait for an answer on one connection; those that are
   posted together are sent together.
   Command on standard input, answered by one line of JSON:
     run FIRST COUNT RATE BATCH SECONDS   post COUNT events numbered from FIRST
   With RATE > 0 events fall due at that rate and what is due at a tick is posted, at most BATCH
   per request, on the connections in turns; a late answer makes the next request larger. The
   time stamp is taken just before the request is written. With RATE 0 every connection
   posts BATCH events as often as it may, and again after each answer. Stops after SECONDS. */
#define _GNU_SOURCE
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct connection {
    int fd, waiting; /* answers outstanding */
    uint64_t *posted; /* ring of W: when each outstanding request was written */
    uint64_t *sizes;  /* events in it */
    unsigned oldest;
    char *answer;
    size_t received, room;
    char *out; /* requests, of which so many bytes are sent */
    size_t sent, length, out_room;
    bool blocked; /* until the socket takes more */
    uint64_t durable; /* events of a streamed body, as answered */
};

static struct connection *connections;
static int port, connection_count, window, poller, event_count;
static bool streamed;
static char *head_text, **events;
static size_t head_size, *event_sizes, *marks;

static struct {
    uint64_t next, end, first_at, last_at, cpu, begun, deadline;
    uint64_t posted, accepted, refused, requests, bytes;
    char refusal[500];
    struct histogram latency;
} r;

static void connect_one(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    if (c->fd > 0) close(c->fd);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->waiting = 0, c->received = 0, c->sent = c->length = 0, c->blocked = false;
    c->durable = 0;
    if (streamed && send(c->fd, head_text, head_size, MSG_NOSIGNAL) != (ssize_t)head_size)
        die("send");
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wanted)) die("epoll_ctl");
}

static void block(struct connection *c, bool blocked) {
    struct epoll_event wanted = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (c->blocked != blocked) epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &wanted);
    c->blocked = blocked;
}

static void flush_requests(struct connection *c) {
    while (c->sent < c->length) {
        ssize_t n = send(c->fd, c->out + c->sent, c->length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return block(c, true);
        if (n < 0) die("send");
        c->sent += (size_t)n;
    }
    c->sent = c->length = 0;
    block(c, false);
}

/* Puts a request behind those that are to be sent. */
static void post(struct connection *c, uint64_t batch) {
    size_t size = 0, begun = c->length;
    for (uint64_t i = 0; i < batch; i++) size += event_sizes[(r.next + i) % (uint64_t)event_count] + 1;
    if (c->out_room < c->length + head_size + 32 + size)
        c->out = must(realloc(c->out, c->out_room = (c->length + head_size + 32 + size) * 2));
    if (streamed) {
        c->length += (size_t)sprintf(c->out + c->length, "%zx\r\n", size);
    } else {
        memcpy(c->out + c->length, head_text, head_size);
        c->length += head_size;
        c->length += (size_t)sprintf(c->out + c->length, "%zu\r\n\r\n", size - 1);
    }
    uint64_t now = now_ns();
    for (uint64_t i = 0; i < batch; i++, r.next++) {
        int which = (int)(r.next % (uint64_t)event_count);
        memcpy(c->out + c->length, events[which], event_sizes[which]);
        put_mark(c->out + c->length + marks[which], r.next, now);
        c->length += event_sizes[which];
        c->out[c->length++] = '\n';
    }
    if (streamed) c->out[c->length++] = '\r', c->out[c->length++] = '\n';
    else c->length--;
    int slot = (int)((c->oldest + (unsigned)c->waiting) % (unsigned)window);
    c->posted[slot] = now;
    c->sizes[slot] = batch;
    c->waiting++;
    r.posted += batch;
    r.requests++;
    r.bytes += c->length - begun;
    if (!r.first_at) r.first_at = now, r.cpu = cpu_ns();
}

/* Bytes of the whole answer that begins there, 0 when it is incomplete. Answers of one run look
   alike, so the head mostly ends, and says the length, where it did last time. */
static size_t answer_size(char *at, size_t received) {
    static size_t head, length;
    if (!length || received < head || memcmp(at + head - 4, "\r\n\r\n", 4) ||
        strncasecmp(at + length - 15, "content-length:", 15)) {
        char *end = memmem(at, received, "\r\n\r\n", 4);
        if (!end) return 0;
        *end = 0;
        char *found = strcasestr(at, "content-length:");
        *end = '\r';
        head = (size_t)(end + 4 - at), length = found ? (size_t)(found + 15 - at) : 0;
    }
    size_t size = head + (length ? strtoul(at + length, NULL, 10) : 0);
    return size <= received ? size : 0;
}

/* The oldest request was answered. */
static void answered(struct connection *c, uint64_t now) {
    record(&r.latency, (now - c->posted[c->oldest]) / 1000);
    r.last_at = now;
    c->oldest = (c->oldest + 1) % (unsigned)window;
    c->waiting--;
}

/* Takes the whole lines of a streamed answer; returns their bytes. */
static size_t acknowledge(struct connection *c, uint64_t now) {
    char *at = c->answer, *end;
    for (; (end = strchr(at, '\n')); at = end + 1) {
        *end = 0;
        char *upto = strstr(at, "\"upto\":");
        if (strstr(at, "\"error\"") || (!strncmp(at, "HTTP/", 5) && atoi(at + 9) != 200)) {
            fprintf(stderr, "the body was ended: %s\n", at);
            exit(1);
        }
        uint64_t durable = upto ? strtoull(upto + 7, NULL, 10) : 0;
        while (c->waiting && c->durable + c->sizes[c->oldest] <= durable) {
            c->durable += c->sizes[c->oldest];
            r.accepted += c->sizes[c->oldest];
            answered(c, now);
        }
    }
    return (size_t)(at - c->answer);
}

static void receive(struct connection *c) {
    if (c->room - c->received < 65536) c->answer = must(realloc(c->answer, c->room += 262144));
    ssize_t n = recv(c->fd, c->answer + c->received, c->room - c->received - 1, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        fprintf(stderr, "the server closed a producer's connection\n");
        exit(1);
    }
    c->received += (size_t)n;
    c->answer[c->received] = 0;
    size_t size, used = 0;
    uint64_t now = now_ns();
    if (streamed) used = acknowledge(c, now);
    while (!streamed && c->waiting && (size = answer_size(c->answer + used, c->received - used))) {
        int status = atoi(c->answer + used + 9);
        if (status >= 200 && status < 300) {
            r.accepted += c->sizes[c->oldest];
        } else if (!r.refused++) {
            snprintf(r.refusal, sizeof r.refusal, "%.*s", (int)size, c->answer + used);
        }
        answered(c, now);
        used += size;
    }
    memmove(c->answer, c->answer + used, c->received -= used);
}

static void collect(int timeout_ms) {
    static struct epoll_event ready[256];
    int number = epoll_wait(poller, ready, 256, timeout_ms);
    for (int i = 0; i < number; i++) {
        if (ready[i].events & EPOLLOUT) flush_requests(ready[i].data.ptr);
        if (ready[i].events & ~(uint32_t)EPOLLOUT) receive(ready[i].data.ptr);
    }
}

static int outstanding(void) {
    int sum = 0;
    for (int i = 0; i < connection_count; i++) sum += connections[i].waiting;
    return sum;
}

static bool idle(const struct connection *c) { return c->waiting < window && !c->blocked; }

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void paced(double rate, uint64_t batch, uint64_t tick_ns) {
    static int turn;
    uint64_t first = r.next, begun = now_ns(), tick = begun;
    while (r.next < r.end && now_ns() < r.deadline) {
        uint64_t now = now_ns();
        uint64_t due = first + 1 + (uint64_t)((double)(now - begun) / 1e9 * rate);
        if (due > r.end) due = r.end;
        for (int busy = 0; r.next < due && busy < connection_count; turn++) {
            struct connection *c = &connections[turn % connection_count];
            if (idle(c)) post(c, least(due - r.next, batch)), busy = 0;
            else busy++;
        }
        for (int i = 0; i < connection_count; i++)
            if (connections[i].length && !connections[i].blocked) flush_requests(&connections[i]);
        collect(0);
        tick += tick_ns;
        if (tick < now) tick = now;
        sleep_until(tick);
    }
}

/* With many answers to come, those of a moment are taken together: to be woken for each is charged
   to the server, and makes the producer the limit. */
#define MANY 64
#define MOMENT_NS 50000

static void closed_loop(uint64_t batch) {
    while (r.next < r.end && now_ns() < r.deadline) {
        for (int i = 0; i < connection_count; i++) {
            struct connection *c = &connections[i];
            while (r.next < r.end && idle(c)) post(c, least(r.end - r.next, batch));
            if (c->length && !c->blocked) flush_requests(c);
        }
        collect(1000);
        if (connection_count * window < MANY) continue;
        sleep_until(now_ns() + MOMENT_NS);
        collect(0);
    }
}

static void print_result(void) {
    double seconds = (double)(r.last_at - r.first_at) / 1e9;
    double busy = (double)(cpu_ns() - r.cpu) / 1e9, share = seconds > 0.1 ? busy / seconds : 0;
    printf("{\"posted\":%lu,\"accepted\":%lu,\"refused\":%lu,\"requests\":%lu,\"bytes\":%lu,"
           "\"seconds\":%.6f,\"cpu_share\":%.4f,\"saturated\":%s,\"p50_us\":%lu,"
           "\"p99_us\":%lu,\"max_us\":%lu,\"refusal\":",
           r.posted, r.accepted, r.refused, r.requests, r.bytes, seconds, share,
           share > 0.9 ? "true" : "false", percentile(&r.latency, 0.5),
           percentile(&r.latency, 0.99), r.latency.max);
    print_string(r.refusal, strlen(r.refusal), sizeof r.refusal);
    printf("}\n");
    fflush(stdout);
}

static void run(const char *command, uint64_t tick_ns) {
    unsigned long first, number, batch;
    double rate, seconds;
    if (sscanf(command, "run %lu %lu %lf %lu %lf", &first, &number, &rate, &batch, &seconds) != 5) {
        fprintf(stderr, "unknown command: %s\n", command);
        exit(2);
    }
    memset(&r, 0, sizeof r);
    r.next = first, r.end = first + number;
    r.begun = now_ns();
    r.deadline = r.begun + (uint64_t)(seconds * 1e9);
    if (rate > 0) paced(rate, batch, tick_ns);
    else closed_loop(batch);
    uint64_t patience = now_ns() + 20000000000u;
    while (outstanding() && now_ns() < patience) collect(100);
    print_result();
}

int main(int argc, char **argv) {
    begin_program();
    port = atoi(option(argc, argv, "--port", NULL));
    connection_count = atoi(option(argc, argv, "--connections", "1"));
    window = atoi(option(argc, argv, "--window", "1"));
    uint64_t tick_ns = strtoull(option(argc, argv, "--tick-us", "1000"), NULL, 10) * 1000;
    streamed = atoi(option(argc, argv, "--streamed", "0"));
    size_t size;
    head_text = read_file(option(argc, argv, "--head", NULL), &head_size);
    event_count = split_lines(read_file(option(argc, argv, "--events", NULL), &size), &events);
    event_sizes = must(calloc((size_t)event_count, sizeof *event_sizes));
    marks = must(calloc((size_t)event_count, sizeof *marks));
    for (int i = 0; i < event_count; i++) {
        char *mark = strstr(events[i], MARK);
        if (!mark) fprintf(stderr, "event %d has no mark\n", i), exit(2);
        event_sizes[i] = strlen(events[i]);
        marks[i] = (size_t)(mark - events[i]);
    }
    if ((poller = epoll_create1(0)) < 0) die("epoll_create1");
    connections = must(calloc((size_t)connection_count, sizeof *connections));
    for (int i = 0; i < connection_count; i++) {
        connections[i].posted = must(calloc((size_t)window, 8));
        connections[i].sizes = must(calloc((size_t)window, 8));
        connect_one(&connections[i]);
    }
    printf("{\"ready\":%d}\n", connection_count);
    fflush(stdout);
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        char *command = next_command();
        if (command) run(command, tick_ns);
        else poll(&input, 1, 1000);
    }
}
