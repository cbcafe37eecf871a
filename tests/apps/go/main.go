// SPDX-License-Identifier: ISC
package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync"
)

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from go %s", r.URL.Path)
	})
	http.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		sum := make(chan int, 8)
		for i := 0; i < 8; i++ {
			wg.Add(1)
			go func() { defer wg.Done(); sum <- fib(20) }()
		}
		wg.Wait()
		close(sum)
		total := 0
		for s := range sum {
			total += s
		}
		runtime.GC()
		fmt.Fprintf(w, "%d", total)
	})
	addr := ":8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	panic(http.ListenAndServe(addr, nil))
}
