/* The ceiling: what the kernel allows one core that does nothing but send.

   ceiling --port P --events FILE --flush-ms F

   Answers every connection at once (WebSocket or SSE by its request) and keeps it. The
   command on standard input, answered by one line of JSON when the last byte is sent:
     run FIRST COUNT RATE BATCH SECONDS   send COUNT events, numbered from FIRST, at RATE
   F = 0 sends each event to each socket alone; F > 0 joins what fell due within F ms and
   sends that once per socket. Every event is framed once and stamped when it falls due.
   BATCH is there for the producer's sake. Sockets block: a slow reader slows everyone, which
   shows as latency. */
#define _GNU_SOURCE
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#define MOST 65536

static int sockets[MOST], socket_count, listener;
static bool websocket;
static char **events;
static int event_count;

static void welcome(void) {
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Accept: none\r\n\r\n";
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n";
    char request[8192];
    int on = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0 || socket_count == MOST) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ssize_t size = recv(fd, request, sizeof request - 1, 0);
    if (size <= 0) die("recv");
    request[size] = 0;
    websocket = strcasestr(request, "upgrade: websocket") != NULL;
    if (websocket) send(fd, upgrade, sizeof upgrade - 1, MSG_NOSIGNAL);
    else send(fd, stream, sizeof stream - 1, MSG_NOSIGNAL);
    sockets[socket_count++] = fd;
}

static size_t framed(char *to, uint64_t seq, uint64_t stamp) {
    const char *event = events[seq % (uint64_t)event_count];
    size_t size = strlen(event), used;
    char *begin = to;
    if (websocket) {
        *to++ = (char)0x81, *to++ = 126;
        *to++ = (char)(size >> 8), *to++ = (char)size;
    } else {
        char id[40];
        used = (size_t)sprintf(id, "id: x-%020lu\n", seq);
        to += sprintf(to, "%zx\r\n%sdata: ", used + 6 + size + 2, id);
    }
    memcpy(to, event, size);
    put_mark(strstr(to, MARK), seq, stamp);
    to += size;
    if (!websocket) memcpy(to, "\n\n\r\n", 4), to += 4;
    return (size_t)(to - begin);
}

static void send_all(const char *bytes, size_t size) {
    for (int i = 0; i < socket_count; i++) {
        size_t sent = 0;
        while (sent < size) {
            ssize_t n = send(sockets[i], bytes + sent, size - sent, MSG_NOSIGNAL);
            if (n <= 0) { /* the reader left: the last one takes its place */
                close(sockets[i]);
                sockets[i--] = sockets[--socket_count];
                break;
            }
            sent += (size_t)n;
        }
    }
}

static void run(const char *command, double flush_ms) {
    static char *buffer;
    static size_t room;
    unsigned long first, count, batch;
    double rate, seconds;
    if (sscanf(command, "run %lu %lu %lf %lu %lf", &first, &count, &rate, &batch, &seconds) != 5) {
        fprintf(stderr, "unknown command: %s\n", command);
        exit(2);
    }
    uint64_t begun = now_ns(), deadline = begun + (uint64_t)(seconds * 1e9), sent = 0;
    uint64_t cpu = cpu_ns(), flush = (uint64_t)(flush_ms * 1e6), next_flush = begun;
    while (sent < count && now_ns() < deadline) {
        uint64_t now = now_ns(), due = 1 + (uint64_t)((double)(now - begun) / 1e9 * rate);
        size_t used = 0;
        if (due > count) due = count;
        while (sent < due) {
            uint64_t stamp = flush ? begun + (uint64_t)((double)sent / rate * 1e9) : now_ns();
            if (room < used + 66000) buffer = must(realloc(buffer, room = used * 2 + 132000));
            used += framed(buffer + used, first + sent++, stamp);
            if (!flush) send_all(buffer, used), used = 0;
        }
        if (used) send_all(buffer, used);
        uint64_t next_due = begun + (uint64_t)((double)sent / rate * 1e9);
        next_flush = now + flush > next_due ? now + flush : next_due;
        sleep_until(next_flush);
    }
    double took = (double)(now_ns() - begun) / 1e9, busy = (double)(cpu_ns() - cpu) / 1e9;
    printf("{\"posted\":%lu,\"accepted\":%lu,\"refused\":0,\"seconds\":%.6f,\"cpu_share\":%.4f,"
           "\"saturated\":false,\"refusal\":\"\"}\n", sent, sent, took, busy / took);
    fflush(stdout);
}

int main(int argc, char **argv) {
    begin_program();
    size_t size;
    int on = 1;
    double flush_ms = atof(option(argc, argv, "--flush-ms", "0"));
    event_count = split_lines(read_file(option(argc, argv, "--events", NULL), &size), &events);
    struct sockaddr_in here = {.sin_family = AF_INET};
    here.sin_port = htons((uint16_t)atoi(option(argc, argv, "--port", NULL)));
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) die("bind");
    printf("{\"ready\":0}\n");
    fflush(stdout);
    for (;;) {
        struct pollfd inputs[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        char *command = next_command();
        if (command) run(command, flush_ms);
        else if (poll(inputs, 2, 1000) > 0 && inputs[1].revents) welcome();
    }
}
