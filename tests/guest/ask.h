/* Questions that a program asks the machine it runs on. One answer is one line:

       NAME  ok [detail]           the expression was 0
       NAME  FAIL ERRNO [detail]   it was -1 (with errno's name), or something else (without)
       NAME  SIGNAL N [detail]     a signal came instead

   The name is written before the question is put: where the machine stops, the log ends with what stopped it, and
   the next run goes on behind it with the arguments `-after NAME`. `-only NAME...` asks those alone. Every answer must be the same in every run: no addresses, times, or numbers of a version. */
#ifndef ASK_H
#define ASK_H

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>

extern sigjmp_buf ask_jump;
extern char ask_detail[400];

/* Takes the signals that faults raise. `seconds`: how long a question may take before SIGALRM ends it; 0: for ever. */
void ask_begin(int argc, char **argv, unsigned seconds);
/* Writes the name; 0 where the question is to be left out. */
int ask_wanted(const char *name);
void ask_answer(int result);
/* The handler of `ask_begin`, for questions that set others. */
void ask_caught(int number);

#define N(...) snprintf(ask_detail, sizeof ask_detail, __VA_ARGS__)
/* A nested function, so that each question has its own stack frame and its own names. */
#define P(name, ...) do { \
    if (ask_wanted(name)) { \
        __attribute__((noinline)) int question(void) { return ({ __VA_ARGS__ }); } \
        if (!sigsetjmp(ask_jump, 1)) { errno = 0; ask_answer(question()); } else ask_answer(0); \
    } \
} while (0)
/* A system call whose number counts, whatever the C library makes of it. Good when it isn't refused. */
#define S(name, ...) P(name, syscall(__VA_ARGS__) < 0 ? -1 : 0;)
/* Is it the number that is expected? The detail says what it was. */
#define IS(expected, ...) ({ long is_ = (__VA_ARGS__); N("%ld", is_); is_ == (expected) ? 0 : is_ == -1 ? -1 : 1; })

#define W "/workspace/"

#endif
