/* Tells where it was built: in a directory whose name mktemp made up. */
#include <stdio.h>
int main(void) { puts("built from " __FILE__); return 0; }
