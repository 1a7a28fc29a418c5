package serial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/vtl/irq"
)

const patience = 10 * time.Second

// gate is a writer that waits for permission.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.Write(p)
}

func run(t *testing.T, u *UART, w io.Writer, r io.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx, w, r) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestOutputReachesWriterInOrder(t *testing.T) {
	u := New(irq.Unconnected, irq.NewSystemClock())
	g := &gate{open: make(chan struct{})}
	close(g.open)
	run(t, u, g, nil)
	want := strings.Repeat("The quick brown fox.\n", 100)
	for _, c := range []byte(want) {
		u.WritePIO(regData, 1, uint32(c))
	}
	if !u.Drain(patience) {
		t.Fatal("output did not drain")
	}
	if g.got.String() != want {
		t.Errorf("writer got %d bytes, want %d", g.got.Len(), len(want))
	}
}

// A guest that looks at LSR loses nothing against a writer that is stuck.
func TestSlowWriterMakesTransmitterBusy(t *testing.T) {
	b := newBench(t)
	b.out(regIER, ierTHREmpty)
	b.out(regMCR, mcrOut2)
	g := &gate{open: make(chan struct{})}
	run(t, b.UART, g, nil)
	sent := 0
	for b.in(regLSR)&lsrTHREmpty != 0 && sent < 2*outputCapacity {
		for range fifoDepth {
			b.out(regData, uint8(sent))
			sent++
		}
	}
	if sent < outputCapacity-2*fifoDepth || sent >= 2*outputCapacity {
		t.Fatalf("transmitter turned busy after %d characters", sent)
	}
	if b.in(regLSR)&lsrTXEmpty != 0 || b.in(regIIR) != iirNone {
		t.Error("busy transmitter claims to be empty")
	}
	if b.Drain(0) {
		t.Error("Drain reports success with a full ring")
	}
	edges := b.line.Edges()
	close(g.open)
	if !b.Drain(patience) {
		t.Fatal("output did not drain")
	}
	if b.line.Edges() != edges+1 {
		t.Errorf("%d interrupts on becoming ready, want 1", b.line.Edges()-edges)
	}
	if g.got.Len() != sent || b.Dropped() != 0 {
		t.Errorf("writer got %d of %d characters, %d dropped", g.got.Len(), sent, b.Dropped())
	}
}

// A burst that fills half of the ring is written before the pause for company ends.
func TestBurstIsNotHeldBack(t *testing.T) {
	b := newBench(t)
	for range hurryAbove {
		b.out(regData, 'x')
	}
	select {
	case <-b.hurry:
	default:
		t.Error("half a ring of output is no reason to hurry")
	}
}

func TestGuestThatIgnoresBusyLosesAndIsCounted(t *testing.T) {
	b := newBench(t)
	for range outputCapacity + 5 {
		b.out(regData, 'x')
	}
	if b.Dropped() != 5 {
		t.Errorf("dropped %d, want 5", b.Dropped())
	}
}

func TestWriterErrorEndsRun(t *testing.T) {
	b := newBench(t)
	b.out(regData, 'x')
	r, w := io.Pipe()
	r.Close()
	err := b.Run(t.Context(), w, nil)
	if !errors.Is(err, ErrOutput) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Run = %v", err)
	}
}

// Input is held while the guest is not ready and never overruns it.
func TestInputWaitsForRTSAndRoom(t *testing.T) {
	u := New(irq.Unconnected, irq.NewSystemClock())
	r, w := io.Pipe()
	want := strings.Repeat("0123456789abcdef", 1000) // more than ring and FIFO
	run(t, u, io.Discard, r)
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, want)
		written <- err
	}()
	u.WritePIO(regIIR, 1, fcrEnable)
	time.Sleep(5 * time.Millisecond)
	if u.ReadPIO(regLSR, 1)&lsrDataReady != 0 {
		t.Fatal("input arrived without RTS")
	}
	u.WritePIO(regIIR, 1, fcrEnable|fcrClearRX) // loses nothing: nothing is here
	u.WritePIO(regMCR, 1, mcrRTS)
	var got strings.Builder
	for deadline := time.Now().Add(patience); got.Len() < len(want) && time.Now().Before(deadline); {
		switch lsr := u.ReadPIO(regLSR, 1); {
		case lsr&lsrErrors != 0:
			t.Fatalf("LSR = %#x", lsr)
		case lsr&lsrDataReady != 0:
			got.WriteByte(byte(u.ReadPIO(regData, 1)))
		}
	}
	if got.String() != want {
		t.Errorf("guest read %d of %d characters", got.Len(), len(want))
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	w.Close()
}

func TestInputEndsWithContext(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	fed := make(chan bool)
	go func() { fed <- b.feed(ctx, make([]byte, 2*inputCapacity)) }()
	cancel()
	if <-fed {
		t.Error("more input accepted than there is room for")
	}
}

// TestType: what is typed from elsewhere takes its place beside other input, waits for
// nobody, and is never lost half.
func TestType(t *testing.T) {
	u := New(irq.Unconnected, irq.NewSystemClock())
	if n := u.Type(make([]byte, inputCapacity+1)); n != inputCapacity {
		t.Fatalf("%d of %d characters without a guest that takes them", n, inputCapacity)
	}
	if n := u.Type([]byte("x")); n != 0 {
		t.Errorf("%d where there is no room", n)
	}
	u.WritePIO(regMCR, 1, mcrRTS)
	for i := range inputCapacity {
		if u.ReadPIO(regLSR, 1)&lsrDataReady == 0 || u.ReadPIO(regData, 1) != 0 {
			t.Fatalf("character %d is not there", i)
		}
	}
	r, w := io.Pipe()
	run(t, u, io.Discard, r)
	const each = 5000
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(w, strings.Repeat("a", each))
	})
	wg.Go(func() {
		for left := strings.Repeat("b", each); left != ""; {
			left = left[u.Type([]byte(left)):]
		}
	})
	var got strings.Builder
	for deadline := time.Now().Add(patience); got.Len() < 2*each && time.Now().Before(deadline); {
		if u.ReadPIO(regLSR, 1)&lsrDataReady != 0 {
			got.WriteByte(byte(u.ReadPIO(regData, 1)))
		}
	}
	if a, b := strings.Count(got.String(), "a"), strings.Count(got.String(), "b"); a != each || b != each {
		t.Errorf("%d and %d characters, want %d of each", a, b, each)
	}
	wg.Wait()
	w.Close()
}
