/* BLAKE2b of a file, of that, and so on: ROUNDS times. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words)
{
    unsigned char data[4096], hash[32];
    FILE *seed = count > 1 ? fopen(words[1], "rb") : NULL;
    if (seed == NULL || getenv("ROUNDS") == NULL || sodium_init() < 0) {
        fprintf(stderr, "usage: ROUNDS=N hash-chain FILE\n");
        return 1;
    }
    size_t size = fread(data, 1, sizeof data, seed);
    crypto_generichash(hash, sizeof hash, data, size, NULL, 0);
    for (int rounds = atoi(getenv("ROUNDS")); rounds > 1; rounds--) {
        memcpy(data, hash, sizeof hash);
        crypto_generichash(hash, sizeof hash, data, sizeof hash, NULL, 0);
    }
    printf("chain=");
    for (size_t at = 0; at < 8; at++)
        printf("%02x", hash[at]);
    printf("\n");
    return 0;
}
