package vmbus

import (
	"sync"
	"testing"
)

// TestExecutor checks that one at a time serves, and that no mark is lost.
func TestExecutor(t *testing.T) {
	var e executor
	var seen, want int // guarded by the executor and by mu
	var mu sync.Mutex
	var wg sync.WaitGroup
	pending := 0
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				mu.Lock()
				pending++
				want++
				mu.Unlock()
				if !e.begin() {
					continue
				}
				for {
					mu.Lock()
					n := pending
					pending = 0
					mu.Unlock()
					seen += n
					if e.end() {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if seen != want || pending != 0 {
		t.Errorf("%d of %d were served", seen, want)
	}
}
