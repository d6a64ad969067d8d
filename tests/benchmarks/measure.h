/* What the three programs of the benchmark share: the clock, the mark inside each
   event, the latency histogram and the one-line commands on standard input. */
#ifndef MEASURE_H
#define MEASURE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Every event carries "bench":"<sequence, 10 digits>:<nanoseconds, 19 digits>". The
   nanoseconds are CLOCK_MONOTONIC, which all processes of one machine share. */
#define MARK "\"bench\":\""
#define MARK_KEY 9
#define SEQ_DIGITS 10
#define NS_DIGITS 19
#define MARK_WIDTH (MARK_KEY + SEQ_DIGITS + 1 + NS_DIGITS)

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
static inline uint64_t cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

static inline void sleep_until(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "stopped");
    exit(1);
}

static inline void *must(void *memory) {
    if (!memory) die("memory");
    return memory;
}

static inline uint64_t digits(const char *at, int width) {
    uint64_t value = 0;
    while (width--) value = value * 10 + (uint64_t)(*at++ - '0');
    return value;
}

static inline void put_digits(char *at, int width, uint64_t value) {
    while (width--) at[width] = (char)('0' + value % 10), value /= 10;
}

static inline void put_mark(char *mark, uint64_t seq, uint64_t ns) {
    put_digits(mark + MARK_KEY, SEQ_DIGITS, seq);
    put_digits(mark + MARK_KEY + SEQ_DIGITS + 1, NS_DIGITS, ns);
}

/* Buckets grow by 1/32 of a power of two: a percentile is right to about 3 %. */
#define BUCKETS (60 * 32)
struct histogram {
    uint64_t counts[BUCKETS], total, max;
};

static inline void record(struct histogram *h, uint64_t us) {
    int power = us < 32 ? 0 : 58 - __builtin_clzll(us);
    h->counts[power * 32 + (int)(us >> power)]++;
    h->total++;
    if (us > h->max) h->max = us;
}

static inline uint64_t percentile(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->total + 0.5), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen && seen >= wanted) {
            int power = i < 64 ? 0 : i / 32 - 1;
            return (uint64_t)(i - power * 32) << power;
        }
    }
    return 0;
}

/* The whole text of a file, with its length. */
static inline char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = must(malloc(*size + 1));
    if (fread(text, 1, *size, file) != *size) die(path);
    fclose(file);
    text[*size] = 0;
    return text;
}

/* Lines of text, in place; returns how many. */
static inline int split_lines(char *text, char ***lines) {
    int count = 0;
    for (char *p = text; (p = strchr(p, '\n')); p++) count++;
    *lines = must(calloc((size_t)count + 1, sizeof **lines));
    count = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) (*lines)[count++] = line;
    return count;
}

/* One command from standard input if a whole line is there. End of input ends the
   program: whoever started it is gone. */
static inline char *next_command(void) {
    static char text[4096];
    static size_t used, taken;
    memmove(text, text + taken, used -= taken);
    taken = 0;
    char *end = memchr(text, '\n', used);
    if (!end) {
        ssize_t n = read(0, text + used, sizeof text - used);
        if (n == 0) exit(0);
        if (n < 0) return NULL;
        used += (size_t)n;
        if (!(end = memchr(text, '\n', used))) return NULL;
    }
    *end = 0;
    taken = (size_t)(end - text) + 1;
    if (!strcmp(text, "quit")) exit(0);
    return text;
}

/* Prints text as a JSON string, at most `limit` bytes of it. */
static inline void print_string(const char *text, size_t size, size_t limit) {
    putchar('"');
    for (size_t i = 0; i < size && i < limit; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 32 || c > 126) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static inline void begin_program(void) {
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    prctl(PR_SET_TIMERSLACK, 1000ul); /* default slack of 50 us would blur the pacing */
}

static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    if (!otherwise) fprintf(stderr, "missing option %s\n", name), exit(2);
    return otherwise;
}

#endif
