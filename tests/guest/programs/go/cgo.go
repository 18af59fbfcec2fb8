//go:build cgo

package main

// int twice(int n) { return 2 * n; }
import "C"
import "fmt"

func init() { fmt.Println("cgo", C.twice(21)) }
