package nvme_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// patience is how long a test waits for what should come soon.
const patience = 20 * time.Second

// quick are time-outs for tests of what goes wrong.
var quick = nvme.Config{
	IOTimeout:       60 * time.Millisecond,
	AbortTimeout:    40 * time.Millisecond,
	AdminTimeout:    2 * time.Second,
	ReadyTimeout:    2 * time.Second,
	ShutdownTimeout: 200 * time.Millisecond,
}

// one is a namespace of 4 MiB.
func one() nvmetest.Config {
	return nvmetest.Config{Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: 8192}}}
}

// open starts a driver on a fake controller, and closes it with the test.
func open(tb testing.TB, fake nvmetest.Config, config nvme.Config) (*nvmetest.Controller, *nvme.Controller) {
	tb.Helper()
	f := nvmetest.New(tb, fake)
	c, err := nvme.Open(f, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return f, c
}

// first returns the first namespace.
func first(tb testing.TB, c *nvme.Controller) *nvme.Namespace {
	tb.Helper()
	list := c.Namespaces()
	if len(list) == 0 {
		tb.Fatal("no namespace")
	}
	return list[0]
}

// start submits a request and returns where its error comes.
func start(d blk.Disk, queue int, r *blk.Request) <-chan error {
	done := make(chan error, 2)
	r.Done = func(r *blk.Request) { done <- r.Err }
	d.Submit(queue, r)
	return done
}

// wait waits for a request's error.
func wait(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		buf := make([]byte, 1<<16)
		t.Fatalf("request does not end\n%s", buf[:runtime.Stack(buf, true)])
		return nil
	}
}

// do runs a request.
func do(t *testing.T, d blk.Disk, r *blk.Request) error {
	t.Helper()
	return wait(t, start(d, 0, r))
}

// guest is memory of a guest that the controller reaches.
type guest struct {
	data []byte
	dma  uint64
}

func newGuest(f *nvmetest.Controller, size int) guest {
	b := make([]byte, size)
	return guest{b, f.Register(b)}
}

// at returns a segment of the memory.
func (g guest) at(offset, length int) blk.Segment {
	return blk.Segment{Data: g.data[offset : offset+length], DMA: g.dma + uint64(offset)}
}

// hidden returns a segment of the memory that must be copied.
func (g guest) hidden(offset, length int) blk.Segment {
	return blk.Segment{Data: g.data[offset : offset+length], DMA: blk.NoDMA}
}

// noise returns bytes that differ.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// rw makes a request that moves the segments' data.
func rw(op blk.Op, lba uint64, size int, segments ...blk.Segment) *blk.Request {
	n := 0
	for _, s := range segments {
		n += len(s.Data)
	}
	return &blk.Request{Op: op, LBA: lba, Blocks: uint32(n / size), Segments: segments}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("request ends with %v, want %v", err, want)
	}
}

func wantData(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("data differs from byte %d on", i)
			}
		}
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not happen", what)
		}
	}
}

// noLeak fails when goroutines are left over at the end of the test.
func noLeak(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
}
