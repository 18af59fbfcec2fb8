// Go without cgo: goroutines on several threads, garbage collection, TCP on loopback, files in /workspace, timers.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

func work(n int) int {
	total := 0
	for i := 0; i < n; i++ {
		b := make([]byte, 1024)
		b[i%1024] = byte(i)
		total += len(b)
	}
	return total
}

func echo(listener net.Listener) {
	connection, err := listener.Accept()
	if err == nil {
		io.Copy(connection, connection)
		connection.Close()
	}
}

func main() {
	var group sync.WaitGroup
	totals := make([]int, 8)
	for i := range totals {
		group.Add(1)
		go func() { defer group.Done(); totals[i] = work(20000) }()
	}
	group.Wait()
	sum := 0
	for _, each := range totals {
		sum += each
	}
	runtime.GC()
	fmt.Println("sum", sum)

	select {
	case <-time.After(20 * time.Millisecond):
		fmt.Println("timer fired")
	case <-time.After(5 * time.Second):
		fmt.Println("timer late")
	}

	func() {
		defer func() { fmt.Println("recovered", recover() != nil) }()
		var missing *struct{ value int }
		fmt.Println(missing.value)
	}()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("listen failed")
		os.Exit(1)
	}
	go echo(listener)
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		fmt.Println("dial failed")
		os.Exit(1)
	}
	fmt.Fprint(connection, "hello")
	answer := make([]byte, 5)
	_, err = io.ReadFull(connection, answer)
	fmt.Println("echo", string(answer), err == nil)

	text, _ := json.Marshal(map[string]int{"b": 2, "a": 1})
	if err := os.WriteFile("/workspace/go.json", text, 0o644); err != nil {
		fmt.Println("write failed")
		os.Exit(1)
	}
	back, err := os.ReadFile("/workspace/go.json")
	fmt.Printf("%s %v %x\n", back, err == nil, sha256.Sum256(back))
}
