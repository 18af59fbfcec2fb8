/* Says whether the loader gave it the memory that its ELF file asks for: .data, relro, .bss, TLS, code pointers.
 *
 * Ends with 0 and "OK", or with 1 and a line for each kind of memory that is wrong. Options (-D):
 *   BSS_MIB=n    that much .bss, touched at both ends and in between
 *   TLS_KIB=n    that much initialised TLS
 *   ALIGN=n      a variable in .data aligned to n bytes
 *   IFUNC        a function that is chosen at start-up (R_X86_64_IRELATIVE)
 *   TEXTREL      an address in .text, which the dynamic loader must write
 *   STACK_CODE   runs code on the stack, which the file must ask for
 *   LATE_RELRO   two pages of constants at the end of relro, not looked at before main
 *   READ_SELF    reads its own file, which must be what it was before .data was written
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORDS 1500 /* 6 KB: more than a page, so that the first and the last page of a segment differ */

static int wrong;

static void check(int good, const char *what)
{
    if (!good) {
        wrong = 1;
        printf("wrong: %s\n", what);
    }
}

#define R10(x) x, x, x, x, x, x, x, x, x, x
#define R100(x) R10(x), R10(x), R10(x), R10(x), R10(x), R10(x), R10(x), R10(x), R10(x), R10(x)
#define R1500(x) R100(x), R100(x), R100(x), R100(x), R100(x), R100(x), R100(x), R100(x), R100(x), R100(x), \
                 R100(x), R100(x), R100(x), R100(x), R100(x)

static volatile uint32_t data[WORDS] = {R1500(0x5eed5eed)};
static volatile uint32_t bss[WORDS];
static const uint32_t constants_[WORDS] = {R1500(0x0c0ffee0)}; /* "const volatile" would lie in .data */
static const volatile uint32_t *volatile constants = constants_;
static _Thread_local volatile uint32_t tls_data = 0x7154da7a;
static _Thread_local volatile uint32_t tls_bss;

static int one(void) { return 1; }
static int two(void) { return 2; }
/* Pointers in constant data: .data.rel.ro in a PIE, the part that PT_GNU_RELRO makes read-only. */
static int (*const functions[])(void) = {one, two, one, two, two};
static volatile uint32_t *const pointers[] = {&data[7], &data[WORDS - 1], &bss[0], 0};

#ifdef BSS_MIB
static volatile char big[(size_t)BSS_MIB << 20];
#endif
#ifdef TLS_KIB
static _Thread_local volatile char big_tls[TLS_KIB << 10] = {1, 2, 3};
#endif
#ifdef ALIGN
static volatile char aligned[64] __attribute__((aligned(ALIGN))) = "aligned";
#endif

#ifdef LATE_RELRO
__attribute__((section(".data.rel.ro"))) volatile uint32_t late[2 * WORDS] = {R1500(0x1a7e1a7e), R1500(0x1a7e1a7e)};
#endif

#ifdef IFUNC
static int chosen_one(void) { return 41; }
static int (*choose(void))(void) { return chosen_one; }
int chosen(void) __attribute__((ifunc("choose")));
#endif

#ifdef TEXTREL
extern volatile uint32_t *address_in_text;
__asm__(".text\n.balign 8\n.globl address_in_text\naddress_in_text: .quad data + 28\n");
#endif

#ifdef READ_SELF
static uint64_t sum_of_file(const char *path)
{
    static unsigned char piece[4096];
    uint64_t sum = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return ~0ull;
    while ((n = read(fd, piece, sizeof piece)) > 0)
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + piece[i];
    close(fd);
    return sum;
}
#endif

static void check_constants(void)
{
    int good = 1;
    for (int i = 0; i < WORDS; i++)
        good &= data[i] == 0x5eed5eed;
    check(good, ".data");
    good = 1;
    for (int i = 0; i < WORDS; i++)
        good &= bss[i] == 0;
    check(good, ".bss");
    good = 1;
    for (int i = 0; i < WORDS; i++)
        good &= constants[i] == 0x0c0ffee0;
    check(good, ".rodata");
    good = 1;
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        good &= functions[i]() == (i == 0 || i == 2 ? 1 : 2);
    good &= pointers[0] == &data[7] && pointers[1] == &data[WORDS - 1] && pointers[2] == bss && !pointers[3];
    check(good, "relro");
    check(tls_data == 0x7154da7a && tls_bss == 0, "TLS");
}

static void check_options(void)
{
#ifdef BSS_MIB
    int zero = 1;
    for (size_t i = 0; i < sizeof big; i += 16 << 20)
        zero &= big[i] == 0;
    big[0] = 1, big[sizeof big - 1] = 2;
    check(zero && big[0] == 1 && big[sizeof big - 1] == 2, "big .bss");
#endif
#ifdef TLS_KIB
    check(big_tls[0] == 1 && big_tls[2] == 3 && big_tls[sizeof big_tls - 1] == 0, "big TLS");
#endif
#ifdef ALIGN
    volatile uintptr_t address = (uintptr_t)aligned; /* a compiler believes the alignment that was asked for */
    check(address % (ALIGN) == 0 && aligned[0] == 'a', "alignment");
#endif
#ifdef LATE_RELRO
    check(late[0] == 0x1a7e1a7e && late[WORDS] == 0x1a7e1a7e && late[2 * WORDS - 1] == 0x1a7e1a7e, "late relro");
#endif
#ifdef IFUNC
    check(chosen() == 41, "IFUNC");
#endif
#ifdef TEXTREL
    check(address_in_text == &data[7], "TEXTREL");
#endif
#ifdef STACK_CODE
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    int (*volatile on_stack)(void) = (int (*)(void))(uintptr_t)code;
    check(on_stack() == 42, "code on the stack");
#endif
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    setvbuf(stdout, 0, _IONBF, 0);
    check_constants();
    check_options();
    /* Write to all that can be written, and look that nothing else changed. */
#ifdef READ_SELF
    uint64_t before = sum_of_file("/prog");
    check(before != ~0ull, "its own file can't be read");
#endif
    for (int i = 0; i < WORDS; i++)
        data[i] = i, bss[i] = ~i;
    tls_data = tls_bss = 5;
    int good = 1;
    for (int i = 0; i < WORDS; i++)
        good &= data[i] == (uint32_t)i && bss[i] == ~(uint32_t)i && constants[i] == 0x0c0ffee0;
    check(good && tls_data == 5 && tls_bss == 5, "memory that was written");
    check(functions[3]() == 2 && pointers[2] == bss, "relro after .data was written");
#ifdef READ_SELF
    check(sum_of_file("/prog") == before, "its own file reads as changed");
#endif
    if (!wrong)
        puts("OK");
    return wrong;
}
