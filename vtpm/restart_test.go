package vtpm_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"keel/vtpm"
	"keel/vtpm/vtpmtest"
)

// TestRestart: a worker that is replaced because somebody asks for it goes on where the
// one before it was, and none is lost by that, also while commands come.
func TestRestart(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	counter(t, c)
	name := nvName(t, c)
	count, model := readCounter(t, c, name), readPCR(t, c, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 5 {
			before := w.Last().Pid()
			if err := tpm.Restart(t.Context()); err != nil || w.Last().Pid() == before {
				t.Errorf("%v, process %d after %d", err, w.Last().Pid(), before)
			}
		}
	})
	for range 20 {
		if err := errors.Join(increment(c, name), extendPCR(c, 16)); err != nil {
			t.Fatal(err)
		}
		count, model = count+1, extended(model)
	}
	wg.Wait()
	if got := readCounter(t, c, name); got != count {
		t.Errorf("the counter is %d, want %d", got, count)
	}
	if got := readPCR(t, c, 16); !bytes.Equal(got, model) {
		t.Errorf("PCR 16 is %x, want %x", got, model)
	}
	if s := tpm.Stats(); s.Lost != 0 || s.Starts != 6 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	if s := w.Stats(); s.Deaths != 0 {
		t.Errorf("%+v", s)
	}
}

// TestRestartRefused: who asks at the wrong time is told, and the TPM works.
func TestRestartRefused(t *testing.T) {
	var hold atomic.Bool
	held, gate := make(chan struct{}), make(chan struct{})
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{Fail: func() error {
		if hold.CompareAndSwap(true, false) {
			close(held)
			<-gate
		}
		return nil
	}})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	counter(t, c)
	name := nvName(t, c)
	before := w.Last().Pid()
	// A command that takes its time.
	hold.Store(true)
	ended := make(chan error)
	go func() { ended <- increment(c, name) }()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := tpm.Restart(ctx); !errors.Is(err, context.DeadlineExceeded) || w.Last().Pid() != before {
		t.Error(err)
	}
	close(gate)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := tpm.Restart(t.Context()); err != nil || w.Last().Pid() == before {
		t.Error(err)
	}
	tpm.Close()
	if err := tpm.Restart(t.Context()); !errors.Is(err, vtpm.ErrClosed) {
		t.Error(err)
	}
}
