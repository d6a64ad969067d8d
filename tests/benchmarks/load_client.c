/* Subscribes many times and measures what arrives, on one core, without getting in the way.

   load_client --port P --count N --requests FILE [--stalled K] [--sleep-us U]

   FILE holds whole HTTP requests, separated by NUL; connection i sends request i modulo
   their number. 101 means WebSocket frames follow, 200 lines (SSE or NDJSON), chunked or
   not. The last K connections stop reading once they are answered.
   Commands on standard input, each answered by one line of JSON:
     open                                   connect all; {"ready":N}
     count FIRST COUNT EXPECT SECONDS       {"counting":true} at once; measures the sequence
                                            numbers from FIRST on and answers again after EXPECT
                                            deliveries, all closed, or SECONDS passed
     expect TOTAL                           changes EXPECT while counting (no answer)
     quit, or end of input
   `count` may come before `open`: then the time runs from there. */
#define _GNU_SOURCE
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum state { CLOSED, HEAD, LINES, FRAMES, STALLED };
enum chunk { PLAIN, SIZE, DATA, AFTER };

struct connection {
    int fd;
    uint8_t state, chunk;
    bool ended;
    size_t chunk_left;
    uint64_t next, delivered;
    char *carry; /* the beginning of a line or frame whose end has not arrived */
    size_t carried, room;
    uint64_t *skipped; /* bit per sequence number passed over; on the first gap only */
};

static struct connection *connections;
static int count, stalled, port, poller, opened, answered, alive, request_count;
static char **requests;
static bool opening, counting;

static struct {
    uint64_t first, count, expect, deadline, begun, first_at, last_at, cpu;
    uint64_t delivered, duplicates, reordered, stray, notices, bytes;
    char notice[200];
    struct histogram latency;
} m;

static void event(struct connection *c, const char *mark, uint64_t now) {
    uint64_t seq = digits(mark + MARK_KEY, SEQ_DIGITS);
    uint64_t sent = digits(mark + MARK_KEY + SEQ_DIGITS + 1, NS_DIGITS);
    if (!counting || seq < m.first || seq >= m.first + m.count) {
        m.stray++;
        return;
    }
    uint64_t at = seq - m.first;
    if (at == c->next) {
        c->next++;
    } else if (at > c->next) {
        if (!c->skipped) c->skipped = must(calloc(m.count / 64 + 1, 8));
        for (uint64_t i = c->next; i < at; i++) c->skipped[i / 64] |= 1ull << (i % 64);
        c->next = at + 1;
    } else if (c->skipped && c->skipped[at / 64] >> (at % 64) & 1) {
        c->skipped[at / 64] &= ~(1ull << (at % 64));
        m.reordered++;
    } else {
        m.duplicates++;
        return;
    }
    if (!m.first_at) m.first_at = now, m.cpu = cpu_ns();
    m.last_at = now;
    m.delivered++;
    c->delivered++;
    record(&m.latency, now > sent ? (now - sent) / 1000 : 0);
}

static void notice(const char *text, size_t size) {
    if (!m.notices++) snprintf(m.notice, sizeof m.notice, "%.*s", (int)size, text);
}

/* Events of one run look alike, so the mark mostly stands where it stood last time. */
static void payload(struct connection *c, const char *text, size_t size, uint64_t now) {
    static size_t usual;
    if (usual + MARK_WIDTH > size || memcmp(text + usual, MARK, MARK_KEY)) {
        const char *mark = memmem(text, size, MARK, MARK_KEY);
        if (!mark || (size_t)(mark - text) + MARK_WIDTH > size) {
            notice(text, size);
            return;
        }
        usual = (size_t)(mark - text);
    }
    event(c, text + usual, now);
}

static void carry(struct connection *c, const char *text, size_t size) {
    if (c->carried + size > c->room)
        c->carry = must(realloc(c->carry, c->room = (c->carried + size) * 2));
    memcpy(c->carry + c->carried, text, size);
    c->carried += size;
}

static void line(struct connection *c, const char *text, size_t size, uint64_t now) {
    if (size && text[0] == '{') payload(c, text, size, now);
    else if (size > 5 && !memcmp(text, "data:", 5)) payload(c, text, size, now);
    else if (size > 6 && !memcmp(text, "event:", 6)) notice(text, size);
}

static void lines(struct connection *c, const char *text, size_t size, uint64_t now) {
    const char *stop = text + size, *end;
    while (text < stop && (end = memchr(text, '\n', (size_t)(stop - text)))) {
        if (c->carried) {
            carry(c, text, (size_t)(end - text));
            line(c, c->carry, c->carried, now);
            c->carried = 0;
        } else {
            line(c, text, (size_t)(end - text), now);
        }
        text = end + 1;
    }
    if (text < stop) carry(c, text, (size_t)(stop - text));
}

/* Bytes of the frame that begins here; of its header while that is incomplete. */
static size_t frame_size(const uint8_t *at, size_t size) {
    if (size < 2) return 2;
    size_t length = at[1] & 127, head = 2;
    int wide = length == 126 ? 2 : length == 127 ? 8 : 0;
    head += (size_t)wide;
    if (size < head) return head;
    if (wide) {
        length = 0;
        for (int i = 0; i < wide; i++) length = length << 8 | at[2 + i];
    }
    return head + length;
}

static void frame(struct connection *c, const char *at, size_t size, uint64_t now) {
    const uint8_t *head = (const uint8_t *)at;
    size_t skip = (head[1] & 127) == 126 ? 4 : (head[1] & 127) == 127 ? 10 : 2;
    int opcode = head[0] & 15;
    if (opcode == 1 || opcode == 2) {
        payload(c, at + skip, size - skip, now);
    } else if (opcode == 9 && size - skip < 126) { /* pong; a mask of zeros changes nothing */
        uint8_t pong[6 + 125] = {0x8a, (uint8_t)(0x80 | (size - skip))};
        memcpy(pong + 6, at + skip, size - skip);
        if (send(c->fd, pong, 6 + size - skip, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) c->ended = true;
    } else if (opcode == 8) {
        notice(at + skip, size - skip);
        c->ended = true;
    }
}

static void frames(struct connection *c, const char *at, size_t size, uint64_t now) {
    while (size) {
        if (!c->carried) {
            size_t need = frame_size((const uint8_t *)at, size);
            if (need <= size) {
                frame(c, at, need, now);
                at += need, size -= need;
                continue;
            }
        }
        size_t need = frame_size((uint8_t *)c->carry, c->carried);
        size_t take = need - c->carried < size ? need - c->carried : size;
        carry(c, at, take);
        at += take, size -= take;
        if (frame_size((uint8_t *)c->carry, c->carried) <= c->carried) {
            frame(c, c->carry, c->carried, now);
            c->carried = 0;
        }
    }
}

static void chunks(struct connection *c, const char *at, size_t size, uint64_t now) {
    while (size) {
        if (c->chunk == DATA) {
            size_t take = c->chunk_left < size ? c->chunk_left : size;
            lines(c, at, take, now);
            at += take, size -= take;
            if (!(c->chunk_left -= take)) c->chunk = AFTER;
            continue;
        }
        char byte = *at++;
        size--;
        if (c->chunk == SIZE && byte == '\n') {
            c->chunk = DATA;
            if (!c->chunk_left) c->ended = true, c->chunk = AFTER;
        } else if (c->chunk == SIZE && byte != '\r') {
            int digit = byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10;
            c->chunk_left = c->chunk_left * 16 + (size_t)digit;
        } else if (c->chunk == AFTER && byte == '\n') {
            c->chunk = SIZE;
        }
    }
}

static void body(struct connection *c, const char *at, size_t size, uint64_t now) {
    m.bytes += size;
    if (c->state == FRAMES) frames(c, at, size, now);
    else if (c->chunk != PLAIN) chunks(c, at, size, now);
    else lines(c, at, size, now);
}

/* The answer to the request; whatever follows it in the same read is already content. */
static void head(struct connection *c, const char *at, size_t size, uint64_t now) {
    size_t before = c->carried;
    carry(c, at, size);
    char *end = memmem(c->carry, c->carried, "\r\n\r\n", 4);
    if (!end) return;
    size_t rest = (size_t)(end + 4 - c->carry) - before;
    *end = 0;
    int status = c->carried > 12 ? atoi(c->carry + 9) : 0;
    if (status != 101 && status != 200) {
        *end = ' ';
        fprintf(stderr, "subscriber %d was refused: %.*s\n", (int)(c - connections),
                (int)(c->carried < 900 ? c->carried : 900), c->carry);
        exit(1);
    }
    c->state = status == 101 ? FRAMES : LINES;
    c->chunk = strcasestr(c->carry, "transfer-encoding: chunked") ? SIZE : PLAIN;
    c->carried = 0;
    answered++;
    if (c - connections >= count - stalled) {
        c->state = STALLED;
        epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
        return;
    }
    body(c, at + rest, size - rest, now);
}

static void shut(struct connection *c) {
    if (c->state == HEAD) fprintf(stderr, "a subscriber was closed before an answer\n"), exit(1);
    if (c->state == LINES && c->carried) line(c, c->carry, c->carried, now_ns());
    close(c->fd);
    c->state = CLOSED;
    alive--;
}

static void receive(struct connection *c) {
    static char buffer[256 * 1024];
    for (int round = 0; round < 4; round++) {
        ssize_t size = recv(c->fd, buffer, sizeof buffer, 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (size <= 0) return shut(c);
        uint64_t now = now_ns();
        if (c->state == HEAD) head(c, buffer, (size_t)size, now);
        else body(c, buffer, (size_t)size, now);
        if (c->state == STALLED) return;
        if (c->ended) return shut(c);
        if ((size_t)size < sizeof buffer) return;
    }
}

static void connect_one(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct connection *c = &connections[opened];
    const char *request = requests[opened % request_count];
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket (raise ulimit -n)");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (send(c->fd, request, strlen(request), MSG_NOSIGNAL) < 0) die("send");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->state = HEAD;
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wanted)) die("epoll_ctl");
    opened++;
    alive++;
}

static void print_result(void) {
    uint64_t now = now_ns(), fewest = UINT64_MAX, most = 0;
    for (int i = 0; i < count - stalled; i++) {
        if (connections[i].delivered < fewest) fewest = connections[i].delivered;
        if (connections[i].delivered > most) most = connections[i].delivered;
    }
    double seconds = m.first_at ? (double)(m.last_at - m.first_at) / 1e9 : 0;
    double window = m.first_at ? (double)(now - m.first_at) / 1e9 : 0;
    double busy = m.first_at ? (double)(cpu_ns() - m.cpu) / 1e9 : 0;
    double share = window > 0.1 ? busy / window : 0;
    printf("{\"delivered\":%lu,\"expected\":%lu,\"duplicates\":%lu,\"reordered\":%lu,"
           "\"stray\":%lu,\"closed\":%d,\"bytes\":%lu,\"fewest\":%lu,\"most\":%lu,"
           "\"seconds\":%.6f,\"elapsed\":%.6f,\"cpu_seconds\":%.6f,\"cpu_share\":%.4f,"
           "\"saturated\":%s,\"p50_us\":%lu,\"p99_us\":%lu,\"max_us\":%lu,\"notices\":%lu,"
           "\"notice\":",
           m.delivered, m.expect, m.duplicates, m.reordered, m.stray, opened - alive, m.bytes,
           fewest, most, seconds, (double)(m.last_at ? m.last_at - m.begun : now - m.begun) / 1e9,
           busy, share, share > 0.9 ? "true" : "false", percentile(&m.latency, 0.5),
           percentile(&m.latency, 0.99), m.latency.max, m.notices);
    print_string(m.notice, strlen(m.notice), sizeof m.notice);
    printf("}\n");
    fflush(stdout);
}

static void obey(char *command) {
    double seconds;
    unsigned long first, number, expect;
    if (!strcmp(command, "open")) {
        uint64_t now = now_ns();
        opening = true;
        m.deadline += now - m.begun;
        m.begun = now;
    } else if (sscanf(command, "count %lu %lu %lu %lf", &first, &number, &expect, &seconds) == 4) {
        memset(&m, 0, sizeof m);
        m.first = first, m.count = number, m.expect = expect;
        m.begun = now_ns();
        m.deadline = m.begun + (uint64_t)(seconds * 1e9);
        for (int i = 0; i < count; i++) {
            connections[i].next = connections[i].delivered = 0;
            free(connections[i].skipped);
            connections[i].skipped = NULL;
        }
        counting = true;
        printf("{\"counting\":true}\n");
        fflush(stdout);
    } else if (sscanf(command, "expect %lu", &expect) == 1) {
        m.expect = expect;
    } else {
        fprintf(stderr, "unknown command: %s\n", command), exit(2);
    }
}

int main(int argc, char **argv) {
    begin_program();
    port = atoi(option(argc, argv, "--port", NULL));
    count = atoi(option(argc, argv, "--count", NULL));
    stalled = atoi(option(argc, argv, "--stalled", "0"));
    uint64_t pause = strtoull(option(argc, argv, "--sleep-us", "500"), NULL, 10) * 1000;
    size_t size;
    char *text = read_file(option(argc, argv, "--requests", NULL), &size);
    requests = must(calloc(size / 4 + 1, sizeof *requests));
    for (char *at = text; at < text + size; at += strlen(at) + 1) requests[request_count++] = at;
    connections = must(calloc((size_t)count, sizeof *connections));
    struct epoll_event *ready = must(calloc((size_t)count + 1, sizeof *ready));
    if ((poller = epoll_create1(0)) < 0) die("epoll_create1");
    for (;;) {
        char *command = next_command();
        if (command) obey(command);
        while (opening && opened < count && opened - answered < 64) connect_one();
        int number = epoll_wait(poller, ready, count, 0);
        for (int i = 0; i < number; i++) receive(ready[i].data.ptr);
        if (opening && answered == count) {
            opening = false;
            printf("{\"ready\":%d}\n", count);
            fflush(stdout);
        }
        bool over = m.delivered >= m.expect || now_ns() > m.deadline || (opened == count && !alive);
        if (counting && !opening && over) {
            print_result();
            counting = false;
        }
        /* Waking for every segment would be charged to the sender and read it one by one. */
        sleep_until(now_ns() + pause);
    }
}
