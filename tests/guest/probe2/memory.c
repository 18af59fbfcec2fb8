/* Mapping, protecting, advising; what a bad access does. */
#include "probe2.h"

#include <alloca.h>
#include <elf.h>
#include <malloc.h>
#include <sys/auxv.h>

#define PAGE 4096
#define BAD MAP_FAILED

static char *pages(int n)
{
    return mmap(0, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static const char constant[8192] = "constant";
static char large[64 << 20];

static int deep(int n)
{
    volatile char room[1024];
    room[n % 1024] = n;
    return n ? deep(n - 1) + room[n % 1024] : 0;
}

static void ask_mapping(void)
{
    P("mmap_nothing", mmap(0, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == BAD ? -1 : 0;);
    P("mmap_no_kind", mmap(0, PAGE, 3, MAP_ANONYMOUS, -1, 0) == BAD ? -1 : 0;);
    P("mmap_bad_descriptor", mmap(0, PAGE, 1, MAP_PRIVATE, 99, 0) == BAD ? -1 : 0;);
    P("mmap_stdout", mmap(0, PAGE, 1, MAP_PRIVATE, 1, 0) == BAD ? -1 : 0;);
    P("mmap_too_large", mmap(0, 1UL << 47, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == BAD ? -1 : 0;);
    P("mmap_fixed", char *p = pages(2); char *q = mmap(p, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
      q == p ? 0 : -1;);
    P("mmap_fixed_odd", mmap((void *)0x10000001, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
      0) == BAD ? -1 : 0;);
    P("mmap_fixed_clears", char *p = pages(1); p[0] = 7;
      mmap(p, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); IS(0, p[0]););
    P("mmap_fixed_noreplace", char *p = pages(2);
      mmap(p, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == BAD ? -1 : 0;);
    P("mmap_hint", char *p = mmap((void *)0x200000000000, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      N("%s", p == (char *)0x200000000000 ? "taken" : "elsewhere"); p == BAD ? -1 : 0;);
    P("mmap_low", mmap((void *)PAGE, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
      0) == BAD ? -1 : munmap((void *)PAGE, PAGE););
    P("mmap_null_fixed", mmap((void *)0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
      0) == BAD ? -1 : munmap((void *)0, PAGE););
    P("mmap_32bit", char *p = mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
      p == BAD ? -1 : (unsigned long)p >> 31 != 0;);
    P("mmap_populate", char *p = mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      p == BAD ? -1 : 0;);
    P("mmap_locked", char *p = mmap(0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0); p == BAD ? -1 : 0;);
    P("mmap_stack", char *p = mmap(0, 8 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
      p == BAD ? -1 : 0;);
    P("mmap_sync", mmap(0, PAGE, 3, MAP_SHARED_VALIDATE | MAP_SYNC | MAP_ANONYMOUS, -1, 0) == BAD ? -1 : 0;);
    P("mmap_is_zero", char *p = pages(64); int n = 0; for (int i = 0; i < 64 * PAGE; i++) n |= p[i]; IS(0, n););
    P("mmap_reused_is_zero", char *p = pages(16); memset(p, 9, 16 * PAGE); munmap(p, 16 * PAGE); p = pages(16);
      int n = 0;
      for (int i = 0; i < 16 * PAGE; i++) n |= p[i]; IS(0, n););
    P("mmap_2g_untouched", char *p = mmap(0, 2UL << 30, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      p == BAD ? -1 : munmap(p, 2UL << 30););
    P("mmap_8g_untouched", char *p = mmap(0, 8UL << 30, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      p == BAD ? -1 : munmap(p, 8UL << 30););
    P("mmap_5000_areas", int n = 0; for (; n < 5000; n++) { char *p = pages(1);
      if (p == BAD || mprotect(p, PAGE, n & 1 ? 1 : 3)) break; } IS(5000, n););
    P("mmap_dev_zero", int f = open("/dev/zero", O_RDWR);
      f < 0 ? -1 : mmap(0, PAGE, 3, MAP_PRIVATE, f, 0) == BAD ? -1 : 0;);
    P("munmap_nothing", munmap((void *)0x10000000, 0););
    P("munmap_unmapped", munmap((void *)0x10000000, PAGE););
    P("munmap_odd", munmap((void *)0x10000001, PAGE););
    P("munmap_middle", char *p = pages(3); munmap(p + PAGE, PAGE); p[0] = p[2 * PAGE] = 1; 0;);
    P("munmap_then_read", volatile char *p = pages(1); munmap((void *)p, PAGE); N("%d", p[0]); 0;);
}

static void ask_protecting(void)
{
    P("mprotect_unmapped", mprotect((void *)0x10000000, PAGE, 1););
    P("mprotect_odd", char *p = pages(1); mprotect(p + 1, PAGE, 1););
    P("mprotect_bad", char *p = pages(1); mprotect(p, PAGE, 0x70););
    P("mprotect_none_read", volatile char *p = pages(1); mprotect((void *)p, PAGE, 0); N("%d", p[0]); 0;);
    P("mprotect_read_write", volatile char *p = pages(1); mprotect((void *)p, PAGE, 1); p[0] = 1; 0;);
    P("mprotect_back", char *p = pages(1); p[0] = 5; mprotect(p, PAGE, 0); mprotect(p, PAGE, 3); IS(5, p[0]););
    P("mprotect_code", char *p = (char *)((unsigned long)ask_memory & -PAGE); mprotect(p, PAGE, 7););
    P("mprotect_stack_exec", char a; mprotect((char *)((unsigned long)&a & -PAGE), PAGE, 7););
    P("write_constant", *(volatile char *)constant = 1; 0;);
    P("write_code", *(volatile char *)ask_memory = 1; 0;);
    P("run_data", char *p = pages(1); p[0] = 0xc3; ((void (*)(void))p)(); 0;);
    P("run_null", ((void (*)(void))0)(); 0;);
    P("read_kernel", N("%d", *(volatile char *)0xffffffff80000000); 0;);
    P("read_odd_address", N("%d", *(volatile char *)0x1234567800000000); 0;);
    P("read_low", N("%d", *(volatile char *)8); 0;);
}

static void ask_moving(void)
{
    P("mremap_shrink", char *p = pages(4); mremap(p, 4 * PAGE, PAGE, 0) == p ? 0 : -1;);
    P("mremap_keeps", char *p = pages(1); p[5] = 9; p = mremap(p, PAGE, 64 * PAGE, MREMAP_MAYMOVE);
      p == BAD ? -1 : IS(9, p[5]););
    P("mremap_grown_is_zero", char *p = pages(1); p = mremap(p, PAGE, 4 * PAGE, MREMAP_MAYMOVE);
      p == BAD ? -1 : IS(0, p[3 * PAGE]););
    P("mremap_in_place", char *p = pages(2); munmap(p + PAGE, PAGE); mremap(p, PAGE, 2 * PAGE, 0) == BAD ? -1 : 0;);
    P("mremap_fixed", char *p = pages(1); char *q = pages(4); p[0] = 3;
      q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q); q == BAD ? -1 : IS(3, q[0]););
    P("mremap_unmapped", mremap((void *)0x10000000, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == BAD ? -1 : 0;);
    P("mremap_dontunmap", char *p = pages(1); mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | 4) == BAD ? -1 : 0;);
    P("mremap_nothing", char *p = pages(1); mremap(p, PAGE, 0, MREMAP_MAYMOVE) == BAD ? -1 : 0;);
    P("realloc_64m", char *p = malloc(1 << 20); p[9] = 4; p = realloc(p, 64 << 20); IS(4, p[9]););
    P("remap_file_pages", char *p = mmap(0, 2 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      remap_file_pages(p, PAGE, 0, 1, 0););
}

static void ask_advising(void)
{
    static const struct { const char *name; int advice; } all[] = {
        {"madvise_normal", MADV_NORMAL}, {"madvise_random", MADV_RANDOM}, {"madvise_sequential", MADV_SEQUENTIAL},
        {"madvise_willneed", MADV_WILLNEED}, {"madvise_remove", MADV_REMOVE}, {"madvise_dontfork", MADV_DONTFORK},
        {"madvise_mergeable", MADV_MERGEABLE}, {"madvise_nohuge", MADV_NOHUGEPAGE}, {"madvise_dontdump",
        MADV_DONTDUMP},
        {"madvise_wipeonfork", MADV_WIPEONFORK}, {"madvise_cold", 20}, {"madvise_pageout", 21},
        {"madvise_populate_read", 22}, {"madvise_populate_write", 23}, {"madvise_collapse", 25}, {"madvise_bad", 999},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        P(all[i].name, char *p = mmap(0, 2 << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
          madvise(p, 2 << 20, all[i].advice););
    P("madvise_unmapped", madvise((void *)0x10000000, PAGE, MADV_WILLNEED););
    P("madvise_odd", char *p = pages(1); madvise(p + 1, PAGE, MADV_DONTNEED););
    P("madvise_dontneed_large", char *p = mmap(0, 8 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      memset(p, 5, 8 << 20); int r = madvise(p, 8 << 20, MADV_DONTNEED);
      N("%d", p[3 << 20]); r;);
    P("madvise_free_kept", char *p = pages(16); memset(p, 5, 16 * PAGE); int r = madvise(p, 16 * PAGE, MADV_FREE);
      N("%d", p[PAGE]); r;);
    P("mlockall", mlockall(MCL_CURRENT););
    P("mlockall_future", int r = mlockall(MCL_FUTURE); munlockall(); r;);
    P("munlockall", munlockall(););
    P("munlock", char *p = pages(1); munlock(p, PAGE););
    P("mlock2", char *p = pages(1); mlock2(p, PAGE, 0););
    P("mlock_unmapped", mlock((void *)0x10000000, PAGE););
    P("mincore_unmapped", unsigned char v; mincore((void *)0x10000000, PAGE, &v););
    P("mincore_odd", unsigned char v; mincore((void *)0x10000001, PAGE, &v););
    P("mincore_untouched", unsigned char v = 7; char *p = pages(1); int r = mincore(p, PAGE, &v); N("%d", v & 1); r;);
    S("process_madvise", SYS_process_madvise, -1, 0, 0, 0, 0);
    S("memfd_secret", 447, 0);
    S("pkey_mprotect", SYS_pkey_mprotect, large, PAGE, 3, -1);
    S("move_pages", SYS_move_pages, 0, 0, 0, 0, 0, 0);
    S("migrate_pages", SYS_migrate_pages, 0, 0, 0, 0);
}

static void ask_heap(void)
{
    P("brk_shrink", char *p = sbrk(1 << 20); p[0] = 1; sbrk(-(1 << 20)) == (void *)-1 ? -1 : 0;);
    P("brk_64m", char *p = sbrk(64 << 20); if (p == (void *)-1) return -1; p[50 << 20] = 1; sbrk(-(64 << 20)); 0;);
    P("brk_beyond_memory", sbrk(4L << 30) == (void *)-1 ? -1 : (sbrk(-(4L << 30)), 0););
    P("malloc_256m", char *p = malloc(256 << 20); memset(p, 3, 256 << 20); int r = p[200 << 20]; free(p); IS(3, r););
    P("malloc_again_256m", int r = 0; for (int i = 0; i < 4; i++) { char *p = malloc(256 << 20);
      memset(p, i, 256 << 20); r += p[99]; free(p); } IS(6, r););
    P("malloc_too_large", void *volatile p = malloc(1UL << 50); p ? 0 : -1;);
    P("calloc_zero", char *p = calloc(1, 8 << 20); int n = 0; for (int i = 0; i < 8 << 20; i++) n |= p[i]; IS(0, n););
    P("malloc_many", void *p[9999]; for (int i = 0; i < 9999; i++) p[i] = malloc(1 + i % 777); for (int i = 0;
      i < 9999; i++) free(p[i]); 0;);
    P("malloc_trim", malloc_trim(0) < 0;);
    P("aligned_alloc_2m", char *p = aligned_alloc(2 << 20, 4 << 20); p && !((unsigned long)p & 0x1fffff) ? 0 : 1;);
    P("bss_64m", large[60 << 20] = 1; IS(0, large[30 << 20]););
    P("stack_1m", volatile char a[1 << 20]; memset((char *)a, 1, sizeof a); a[9] == 1 ? 0 : 1;);
    P("stack_1800k", deep(1600) ? 0 : 0;);
    P("alloca_512k", volatile char *p = alloca(512 << 10); p[0] = 1; 0;);
    P("page_size", IS(4096, sysconf(_SC_PAGESIZE)););
    P("auxv_pagesz", IS(4096, getauxval(AT_PAGESZ)););
    P("auxv_random", getauxval(AT_RANDOM) ? 0 : 1;);
    P("auxv_vdso", N("%s", getauxval(AT_SYSINFO_EHDR) ? "there" : "none"); 0;);
    P("auxv_execfn", char *p = (char *)getauxval(AT_EXECFN); N("%s", p ? p : "none"); 0;);
    P("auxv_platform", char *p = (char *)getauxval(AT_PLATFORM); N("%s", p ? p : "none"); 0;);
    P("auxv_hwcap", N("%s", getauxval(AT_HWCAP) ? "set" : "none"); 0;);
    P("auxv_hwcap2", N("%s", getauxval(AT_HWCAP2) ? "set" : "none"); 0;);
    P("auxv_clktck", IS(100, getauxval(AT_CLKTCK)););
    P("auxv_secure", IS(0, getauxval(AT_SECURE)););
    P("auxv_phdr", getauxval(AT_PHDR) && getauxval(AT_PHNUM) ? 0 : 1;);
    P("auxv_entry", getauxval(AT_ENTRY) ? 0 : 1;);
    P("auxv_uid", IS(0, getauxval(AT_UID)););
    P("auxv_base", getauxval(AT_BASE) ? 0 : 1;);
    P("auxv_minsigstksz", N("%s", getauxval(51) ? "set" : "none"); 0;);
}

void ask_memory(void)
{
    ask_mapping();
    ask_protecting();
    ask_moving();
    ask_advising();
    ask_heap();
}
