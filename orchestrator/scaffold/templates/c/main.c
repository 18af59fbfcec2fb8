/* A Gevulot program: takes tasks through the shim and answers each with the number of its arguments. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shim.h"

static void *on_task(const struct Task *task)
{
    int arguments = 0;
    while (task->args && task->args[arguments])
        arguments++;
    printf("task %s: %d arguments\n", task->id, arguments);

    char answer[32];
    int length = snprintf(answer, sizeof answer, "%d", arguments);
    return new_task_result((uint8_t *)answer, (size_t)length);
}

int main(void)
{
    run(on_task);
    return 0;
}
