package paravisor

import (
	"errors"
	"os"
	"runtime"
	"runtime/metrics"

	"keel/diag/inspect"
)

// process is the node of the paravisor's own process.
type process struct{}

// heapMetric and totalMetric are what the runtime says of the process's memory.
const (
	heapMetric  = "/memory/classes/heap/objects:bytes"
	totalMetric = "/memory/classes/total:bytes"
)

// Inspect writes what the process holds. It tells of Keel and its clients.
func (process) Inspect(f *inspect.Fields) {
	f.Gauge("goroutines", inspect.Public, inspect.Count, uint64(runtime.NumGoroutine()), "goroutines")
	if n, err := descriptors(); err == nil {
		f.Gauge("descriptors", inspect.Public, inspect.Count, n, "open file descriptors")
	}
	samples := []metrics.Sample{{Name: heapMetric}, {Name: totalMetric}}
	metrics.Read(samples)
	for i, x := range []struct{ name, doc string }{
		{"heap", "objects in the heap, dead ones included that were not collected yet"},
		{"memory", "memory that the Go runtime has from the kernel"},
	} {
		if v := samples[i].Value; v.Kind() == metrics.KindUint64 {
			f.Gauge(x.name, inspect.Public, inspect.Bytes, v.Uint64(), x.doc)
		}
	}
}

// descriptors returns how many file descriptors are open.
func descriptors() (uint64, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	names, err := dir.Readdirnames(-1)
	return uint64(max(len(names)-1, 0)), errors.Join(err, dir.Close()) // but for this one
}
