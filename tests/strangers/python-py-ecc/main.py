"""A pairing of BN254 by py_ecc, and a polynomial by numpy: the steps of a verifier."""

import numpy
from py_ecc.optimized_bn128 import G1, G2, curve_order, multiply, pairing


def main() -> None:
    a, b = 5, 7
    equal = pairing(multiply(G2, b), multiply(G1, a)) == pairing(G2, multiply(G1, a * b % curve_order))
    other = pairing(multiply(G2, b), multiply(G1, a)) == pairing(G2, multiply(G1, a * b + 1))
    coefficients = numpy.array([3, 0, 2, 1])
    value = int(numpy.polyval(coefficients, 10))
    inverse = numpy.linalg.inv(numpy.array([[2.0, 1.0], [5.0, 3.0]])).round().astype(int).tolist()
    print(f"pairing={equal} other={other} polynomial={value} inverse={inverse}")


main()
