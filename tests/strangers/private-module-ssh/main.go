// Command norm uses a module of a private repository.
package main

import (
	"fmt"

	lattice "git.example.org/private/lattice.git"
)

func main() {
	fmt.Println("norm of (3, 4, 12):", lattice.Norm(3, 4, 12))
}
