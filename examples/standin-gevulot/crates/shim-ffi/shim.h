/* C interface of the Gevulot shim (stand-in: the same three functions and one structure). */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One task. The arrays end with NULL; everything is valid only during the callback.
 * Names in `files` are relative to /workspace unless they begin with '/'. */
typedef struct Task {
  const char *id;
  const char *const *args;
  const char *const *files;
} Task;

/* A result holding a copy of `len` bytes at `data`; (NULL, 0) makes an empty one. */
void *new_task_result(uint8_t *data, size_t len);

/* Names a file, by its path in the guest, that goes back with the result. */
void add_file_to_result(void *result, const char *file_name);

/* Fetches the task, calls `callback`, hands in what it returns (never NULL) and returns.
 * A task that can't be read, or a result that can't be handed in, aborts the program. */
void run(void *(*callback)(const struct Task *));

#ifdef __cplusplus
}
#endif

#endif
