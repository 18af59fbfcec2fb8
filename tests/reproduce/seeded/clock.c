/* Tells when it was built: a time stamp, which SOURCE_DATE_EPOCH doesn't reach as `date` has no ear for it. */
#include <stdio.h>
int main(void) { puts("built " BUILT); return 0; }
