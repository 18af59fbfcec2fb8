/* The longest Collatz sequence that begins below a million, by two threads of musl's. */
#include <pthread.h>
#include <stdio.h>

struct half { unsigned first, longest, start; };

static void *search(void *argument)
{
    struct half *half = argument;
    for (unsigned start = half->first; start < 1000000; start += 2) {
        unsigned length = 1;
        for (unsigned long n = start; n != 1; length++)
            n = n % 2 ? 3 * n + 1 : n / 2;
        if (length > half->longest) {
            half->longest = length;
            half->start = start;
        }
    }
    return NULL;
}

int main(void)
{
    struct half odd = {1, 0, 0}, even = {2, 0, 0};
    pthread_t thread;
    if (pthread_create(&thread, NULL, search, &odd) != 0)
        return 1;
    search(&even);
    pthread_join(thread, NULL);
    struct half *best = odd.longest > even.longest ? &odd : &even;
    printf("collatz start=%u length=%u\n", best->start, best->longest);
    return 0;
}
