#define _GNU_SOURCE
#include "ask.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

sigjmp_buf ask_jump;
char ask_detail[400];

static volatile sig_atomic_t caught;
static int listed, only, after;
static char **list;
static unsigned limit;

void ask_caught(int number)
{
    caught = number;
    siglongjmp(ask_jump, 1);
}

static void take_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGSYS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        signal(faults[i], ask_caught);
    if (limit)
        signal(SIGALRM, ask_caught);
    signal(SIGPIPE, SIG_IGN);
}

void ask_begin(int argc, char **argv, unsigned seconds)
{
    only = argc > 1 && !strcmp(argv[1], "-only");
    after = argc > 2 && !strcmp(argv[1], "-after");
    list = argv + 2;
    listed = only || after ? argc - 2 : 0;
    limit = seconds;
    setvbuf(stdout, 0, _IOLBF, 0);
    take_signals();
}

int ask_wanted(const char *name)
{
    int in = 0;
    for (int i = 0; i < listed; i++)
        in |= !strcmp(list[i], name);
    if (after) {
        after = !in;
        return 0;
    }
    if (only && !in)
        return 0;
    printf("%-26s ", name);
    fflush(stdout);
    ask_detail[0] = 0;
    caught = 0;
    if (limit)
        alarm(limit);
    return 1;
}

void ask_answer(int result)
{
    int error = errno;
    const char *name = strerrorname_np(error);
    if (limit) {
        /* What a question left behind doesn't change the next one's answer. */
        alarm(0);
        for (int fd = 3; fd < 256; fd++) {
            fsync(fd); /* see closed_unsynced in probe2/dangers.c */
            close(fd);
        }
        take_signals();
    }
    if (caught)
        printf("SIGNAL %d %s\n", caught, ask_detail);
    else if (result == 0)
        printf("ok %s\n", ask_detail);
    else
        printf("FAIL %s %s\n", result == -1 ? (name ? name : "?") : "", ask_detail);
    fflush(stdout);
}
