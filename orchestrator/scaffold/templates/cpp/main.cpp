// A Gevulot program: takes tasks through the shim and answers each with its arguments joined.
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>

extern "C" {
#include "shim.h"
}

static void *on_task(const struct Task *task)
{
    std::string answer;
    for (auto argument = task->args; argument && *argument; ++argument)
        answer += (answer.empty() ? "" : " ") + std::string(*argument);
    std::cout << "task " << task->id << ": " << answer << std::endl;
    return new_task_result(reinterpret_cast<std::uint8_t *>(answer.data()), answer.size());
}

int main()
{
    run(on_task);
}
