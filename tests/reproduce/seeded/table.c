/* Its table was written in the order of a hash table, whose seed is another one in each process. */
#include <stdio.h>
static const char *names[] = {
#include "table.h"
};
int main(void) { for (unsigned i = 0; i < sizeof names / sizeof *names; i++) puts(names[i]); return 0; }
