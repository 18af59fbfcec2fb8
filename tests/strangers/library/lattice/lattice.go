// Package lattice has the one function that nobody else may see.
package lattice

// Norm is the sum of the squares.
func Norm(vector ...int) (sum int) {
	for _, entry := range vector {
		sum += entry * entry
	}
	return sum
}
