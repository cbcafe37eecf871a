// SPDX-License-Identifier: ISC
// N goroutines compute; prints the rounds of all of them in a second.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	const rounds = 600000000
	var w sync.WaitGroup
	sums := make([]uint64, n*16)
	start := time.Now()
	for i := 0; i < n; i++ {
		w.Add(1)
		go func(i int) {
			defer w.Done()
			x := uint64(i)
			for k := 0; k < rounds; k++ {
				x = x*6364136223846793005 + 1
			}
			sums[i*16] = x
		}(i)
	}
	w.Wait()
	fmt.Println(float64(n*rounds) / time.Since(start).Seconds())
}
