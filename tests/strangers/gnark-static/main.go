// Command cubic proves x**3 + x + 5 == y by Groth16 over BN254, and verifies the proof.
package main

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
	witness, err := frontend.NewWitness(&cubic{X: 3, Y: 35}, ecc.BN254.ScalarField())
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
	fmt.Printf("gnark 35=%v 36=%v\n", valid, groth16.Verify(proof, verifyingKey, wrong) == nil)
	return nil
}
