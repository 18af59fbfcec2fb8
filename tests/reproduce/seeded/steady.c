/* The same bytes wherever it is built: gcc takes the date from SOURCE_DATE_EPOCH. */
#include <stdio.h>
int main(void) { puts("as old as its sources: " __DATE__ " " __TIME__); return 0; }
