"""Okamoto's proof of knowledge of (value, blinding) with commitment = value * G + blinding * H, on BN254."""

import hashlib
from collections.abc import Mapping
from typing import Any

from py_ecc.optimized_bn128 import FQ, G1, add, b, curve_order, is_on_curve, multiply, normalize

Point = tuple[int, int]


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest(), "big") % int(curve_order)


def _second_generator() -> Any:
    """A point whose logarithm to G nobody knows: the first one whose x is a hash."""
    for counter in range(256):
        x = FQ(int.from_bytes(hashlib.sha256(b"py-prover %d" % counter).digest(), "big"))
        square = x**3 + b
        y = square ** ((FQ.field_modulus + 1) // 4)
        if y * y == square:
            return (x, y, FQ.one())
    raise AssertionError("one in two is on the curve")


H = _second_generator()
assert is_on_curve(H, b)


def _affine(point: Any) -> Point:
    x, y = normalize(point)
    return int(x), int(y)


def _sum(first: int, second: int) -> Any:
    return add(multiply(G1, first % curve_order), multiply(H, second % curve_order))


def commit(value: int, blinding: int) -> Point:
    """The commitment, as affine coordinates."""
    return _affine(_sum(value, blinding))


def prove(commitment: Point, opening: tuple[int, int]) -> dict[str, int]:
    """challenge, first and second. The nonces follow from the opening, so that a proof is the same each time."""
    nonces = _number("first", opening), _number("second", opening)
    challenge = _number(commitment, _affine(_sum(*nonces)))
    answers = [(nonce + challenge * secret) % curve_order for nonce, secret in zip(nonces, opening, strict=True)]
    return {"challenge": challenge, "first": answers[0], "second": answers[1]}


def verify(commitment: Point, proof: Mapping[str, int]) -> bool:
    """Whether whoever made the proof knew an opening."""
    point = (FQ(commitment[0]), FQ(commitment[1]), FQ.one())
    if not is_on_curve(point, b):
        return False
    announced = add(_sum(proof["first"], proof["second"]), multiply(point, -proof["challenge"] % curve_order))
    return _number(commitment, _affine(announced)) == proof["challenge"]
