/* Reads params/proving.key to its end and prints its size and Fletcher's sum over its 32-bit words. */
#include <stdint.h>
#include <stdio.h>

int main(void)
{
    static uint32_t words[1 << 16];
    FILE *key = fopen("/params/proving.key", "rb");
    if (key == NULL) {
        perror("/params/proving.key");
        return 1;
    }
    uint64_t size = 0, sum = 0, sums = 0;
    for (size_t count; (count = fread(words, 4, sizeof words / 4, key)) > 0; size += 4 * count)
        for (size_t at = 0; at < count; at++) {
            sum = (sum + words[at]) % 0xffffffff;
            sums = (sums + sum) % 0xffffffff;
        }
    printf("key size=%llu sum=%08llx%08llx\n", (unsigned long long)size, (unsigned long long)sums, (unsigned long long)sum);
    return fclose(key) != 0;
}
