// Command cubic-gmp proves x**3 + x + 5 == y by Groth16 over BN254, verifies the proof, and computes y by GMP.
package main

// #cgo LDFLAGS: -lgmp
// #include <gmp.h>
// static unsigned long cube(unsigned long x) {
//     mpz_t y;
//     mpz_init(y);
//     mpz_ui_pow_ui(y, x, 3);
//     unsigned long answer = mpz_get_ui(y) + x + 5;
//     mpz_clear(y);
//     return answer;
// }
import "C"

import (
	"fmt"
	"os"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/logger"
)

type cubic struct {
	X frontend.Variable
	Y frontend.Variable `gnark:",public"`
}

func (c *cubic) Define(api frontend.API) error {
	cube := api.Mul(c.X, c.X, c.X)
	api.AssertIsEqual(c.Y, api.Add(cube, c.X, 5))
	return nil
}

func main() {
	logger.Disable()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	system, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, &cubic{})
	if err != nil {
		return err
	}
	provingKey, verifyingKey, err := groth16.Setup(system)
	if err != nil {
		return err
	}
	witness, err := frontend.NewWitness(&cubic{X: 3, Y: uint64(C.cube(3))}, ecc.BN254.ScalarField())
	if err != nil {
		return err
	}
	proof, err := groth16.Prove(system, provingKey, witness)
	if err != nil {
		return err
	}
	wrong, err := frontend.NewWitness(&cubic{X: 3, Y: 36}, ecc.BN254.ScalarField(), frontend.PublicOnly())
	if err != nil {
		return err
	}
	public, err := witness.Public()
	if err != nil {
		return err
	}
	valid := groth16.Verify(proof, verifyingKey, public) == nil
	fmt.Printf("gnark %d=%v 36=%v\n", C.cube(3), valid, groth16.Verify(proof, verifyingKey, wrong) == nil)
	return nil
}
