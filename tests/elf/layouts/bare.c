/* A program without a C library, so that a linker script or a flag alone decides what its segments hold.
 *
 * Ends with 0 and "OK" where .data and .bss are as they should be. NO_DATA leaves .data out: the writable segment has
 * then no bytes in the file. READ_ONLY only reads; RELRO
 * adds a constant that PT_GNU_RELRO covers.
 */
#ifndef SIZE
#define SIZE 5000 /* bytes of .bss: more than a page */
#endif

#ifndef NO_DATA
static volatile char data[600] = {1, 2, 3};
#endif
static volatile char bss[SIZE];
#ifdef RELRO
static volatile const char *const relro[2] = {bss, 0}; /* nobody relocates it here; it is only read */
#endif

static long call(long number, long a, const void *b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

void _start(void)
{
    int good = 1;
#ifdef RELRO
    volatile const char *const *volatile pointers = relro;
    good &= pointers[1] == 0;
#endif
#ifndef NO_DATA
    good &= data[0] == 1 && data[2] == 3 && data[599] == 0;
#endif
    for (int i = 0; i < SIZE; i++)
        good &= bss[i] == 0;
#ifndef READ_ONLY
    for (int i = 0; i < SIZE; i++)
        bss[i] = (char)i;
    for (int i = 0; i < SIZE; i++)
        good &= bss[i] == (char)i;
#endif
    call(1, 1, good ? "OK\n" : "wrong: .data or .bss\n", good ? 3 : 21);
    call(231, !good, 0, 0); /* exit_group */
}
