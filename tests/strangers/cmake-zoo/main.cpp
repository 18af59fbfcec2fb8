// 1000! by threads, its digits summed, and a modular power: Boost.Program_options, Boost.Multiprecision, GMP, OpenMP.
#include <boost/multiprecision/cpp_int.hpp>
#include <boost/program_options.hpp>
#include <gmpxx.h>
#include <iostream>
#include <omp.h>
#include <vector>

int main(int argc, char **argv)
{
    namespace options = boost::program_options;
    options::options_description known("options");
    known.add_options()("n", options::value<int>()->default_value(1000), "the number whose factorial is taken");
    options::variables_map chosen;
    options::store(options::parse_command_line(argc, argv, known), chosen);
    int n = chosen["n"].as<int>();

    std::vector<mpz_class> parts(omp_get_max_threads(), 1);
#pragma omp parallel for
    for (int i = 1; i <= n; i++)
        parts[omp_get_thread_num()] *= i;
    mpz_class factorial = 1;
    for (auto &part : parts)
        factorial *= part;

    boost::multiprecision::cpp_int same(factorial.get_str());
    long sum = 0;
    for (char digit : same.str())
        sum += digit - '0';
    mpz_class power, base = 3, exponent = 1000003, modulus = 1000000007;
    mpz_powm(power.get_mpz_t(), base.get_mpz_t(), exponent.get_mpz_t(), modulus.get_mpz_t());
    std::cout << n << "! has digit sum " << sum << ", 3^1000003 = " << power << " mod 1000000007" << std::endl;
    return 0;
}
