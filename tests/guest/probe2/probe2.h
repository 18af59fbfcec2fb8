/* The second probe: what the first doesn't ask. One file a subject, and what they share. */
#ifndef PROBE2_H
#define PROBE2_H

#define _GNU_SOURCE
#include "../ask.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

void ask_files(void);
void ask_workspace(void);
void ask_memory(void);
void ask_processes(void);
void ask_threads(void);
void ask_signals(void);
void ask_time(void);
void ask_descriptors(void);
void ask_sockets(void);
void ask_places(void);
void ask_dangers(void);

/* A file of that text; 0, or -1 with errno. */
int put(const char *path, const char *text);
/* An empty file, open for reading and writing. */
int fresh(const char *name);
/* Its content's first line goes to the detail when `show`, else "text" or "empty". */
int get(const char *path, int show);
/* Milliseconds of a clock. */
long ms(clockid_t clock);

#endif
