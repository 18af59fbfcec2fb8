// Sums the numbers in every file below /tables.
#include <filesystem>
#include <fstream>
#include <iostream>

int main()
{
    long files = 0, sum = 0, number;
    for (const auto &entry : std::filesystem::recursive_directory_iterator("/tables"))
        if (entry.is_regular_file()) {
            std::ifstream(entry.path()) >> number;
            files++;
            sum += number;
        }
    std::cout << "tables files=" << files << " sum=" << sum << std::endl;
    return 0;
}
