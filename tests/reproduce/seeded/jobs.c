/* Its parts were written by parallel jobs, each when it was done. */
#include <stdio.h>
static const char *parts[] = {
#include "jobs.h"
};
int main(void) { for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) puts(parts[i]); return 0; }
