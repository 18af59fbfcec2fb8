// C++: exceptions through several frames and out of threads, thread_local, a condition variable, std::async.
#include <condition_variable>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

thread_local int depth = 0;

struct Counted {
    explicit Counted(int &left) : left(left) {}
    ~Counted() { left++; }
    int &left;
};

int dive(int n, int &unwound)
{
    Counted counted(unwound);
    depth++;
    if (n == 0)
        throw std::runtime_error("bottom");
    return dive(n - 1, unwound) + 1;
}

long sum_of_squares(long from, long to)
{
    long sum = 0;
    for (long i = from; i < to; i++)
        sum += i * i % 7;
    return sum;
}

} // namespace

int main()
{
    int unwound = 0;
    std::string caught;
    try {
        dive(50, unwound);
    } catch (const std::exception &error) {
        caught = error.what();
    }
    std::cout << "caught " << caught << " after " << unwound << " frames\n";

    std::vector<std::future<long>> parts;
    for (long i = 0; i < 8; i++)
        parts.push_back(std::async(std::launch::async, sum_of_squares, i * 100000, (i + 1) * 100000));
    long sum = 0;
    for (auto &part : parts)
        sum += part.get();
    std::cout << "sum " << sum << "\n";

    auto failing = std::async(std::launch::async, []() -> int { throw std::out_of_range("thrown in a thread"); });
    try {
        failing.get();
    } catch (const std::out_of_range &error) {
        std::cout << error.what() << ", depth there " << depth - 51 << "\n";
    }

    std::mutex lock;
    std::condition_variable turn;
    int next = 0;
    std::vector<std::thread> ring;
    for (int i = 0; i < 4; i++)
        ring.emplace_back([&, i] {
            for (int round = 0; round < 100; round++) {
                std::unique_lock<std::mutex> held(lock);
                turn.wait(held, [&] { return next % 4 == i; });
                next++;
                turn.notify_all();
            }
        });
    for (auto &thread : ring)
        thread.join();
    std::cout << "turns " << next << "\n";

    std::map<std::string, std::shared_ptr<std::string>> held;
    for (int i = 0; i < 1000; i++)
        held[std::to_string(i)] = std::make_shared<std::string>(1000, 'x');
    std::cout << "held " << held.size() << std::endl;
    return 0;
}
