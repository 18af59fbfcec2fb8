/* 200 MB written to /workspace, read back in another order, mapped, checked; as a prover's parameters and proofs are. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1 << 20)
#define SIZE 200

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static void fill(unsigned *block, unsigned number)
{
    for (unsigned i = 0; i < MIB / sizeof *block; i++)
        block[i] = number * 2654435761u + i;
}

int main(void)
{
    unsigned *block = malloc(MIB), *read_back = malloc(MIB);
    int fd = open("/workspace/large", O_CREAT | O_RDWR | O_TRUNC, 0644);
    if (fd < 0)
        return fail("open");
    for (unsigned i = 0; i < SIZE; i++) {
        fill(block, i);
        if (write(fd, block, MIB) != MIB)
            return fail("write");
    }
    if (fsync(fd))
        return fail("fsync");
    close(fd);
    struct stat state;
    if (stat("/workspace/large", &state))
        return fail("stat");
    printf("written %ld MiB\n", (long)state.st_size / MIB);
    fflush(stdout);
    fd = open("/workspace/large", O_RDONLY);
    for (unsigned i = 0; i < SIZE; i++) {
        unsigned number = i * 77 % SIZE;
        fill(block, number);
        if (pread(fd, read_back, MIB, (off_t)number * MIB) != MIB)
            return fail("pread");
        if (memcmp(block, read_back, MIB)) {
            printf("block %u differs\n", number);
            return 1;
        }
    }
    printf("read back %d MiB\n", SIZE);
    fflush(stdout);
    unsigned *map = mmap(0, (size_t)SIZE * MIB, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return fail("mmap");
    fill(block, 123);
    printf("mapped %s\n", memcmp(map + 123L * (MIB / sizeof *map), block, MIB) ? "differs" : "equal");
    printf("END\n");
    return 0;
}
