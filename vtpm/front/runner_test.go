package front_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"keel/vtl/irq"
	"keel/vtpm"
	"keel/vtpm/front"
	"keel/vtpm/front/fronttest"
)

// device is the least that a Runner needs around it.
type device struct {
	mu       sync.Mutex
	clock    irq.ManualClock
	tpm      fronttest.Scripted
	runner   *front.Runner
	finished [][]byte
}

func newDevice() *device {
	d := &device{}
	d.runner = front.NewRunner(&d.mu, &d.tpm, &d.clock, func(r []byte) {
		d.finished = append(d.finished, append([]byte(nil), r...))
	})
	return d
}

// locked calls f as the device does.
func (d *device) locked(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *device) start(command []byte) {
	d.locked(func() { d.runner.Start(2, command) })
}

// want checks that these responses were delivered since the last call, and no other.
func (d *device) want(t *testing.T, responses ...[]byte) {
	t.Helper()
	if len(responses) != len(d.finished) {
		t.Fatalf("%d responses, want %d: %x", len(d.finished), len(responses), d.finished)
	}
	for i, r := range responses {
		if !bytes.Equal(d.finished[i], r) {
			t.Errorf("response %x, want %x", d.finished[i], r)
		}
	}
	d.finished = nil
}

var (
	first    = fronttest.Command(1, 20)
	second   = fronttest.Command(2, 22)
	third    = fronttest.Command(3, 24)
	tooBusy  = fronttest.Code(0x922)
	failed   = fronttest.Code(0x101)
	badSize  = fronttest.Code(0x142)
	canceled = fronttest.Code(0x909)
)

func TestRunner(t *testing.T) {
	d := newDevice()
	d.start(first)
	d.want(t)
	d.tpm.Deliver(nil)
	d.want(t, fronttest.Answer(2, first))
	if s := d.runner.Stats(); s != (front.Stats{Commands: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestCommandSizes(t *testing.T) {
	declared := func(size int, b []byte) []byte {
		b = append([]byte(nil), b...)
		b[2], b[3], b[4], b[5] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size)
		return b
	}
	for name, command := range map[string][]byte{
		"nothing":     nil,
		"half a size": first[:5],
		"no code":     declared(9, first[:9]),
		"cut short":   first[:19],
		"more":        append(append([]byte(nil), first...), 0),
		"much":        declared(1<<31, first),
		"too long":    fronttest.Command(1, vtpm.MaxBuffer+1),
	} {
		d := newDevice()
		d.start(command)
		d.want(t, badSize)
		if d.tpm.Taken() != 0 {
			t.Errorf("%s: the TPM got it", name)
		}
	}
	d := newDevice()
	d.start(fronttest.Command(1, vtpm.MaxBuffer))
	d.tpm.Deliver(nil)
	if len(d.finished) != 1 || len(d.finished[0]) != vtpm.MaxBuffer {
		t.Error("the longest command was not answered")
	}
}

// What a worker says is not believed.
func TestMalformedResponses(t *testing.T) {
	long := fronttest.Answer(0, fronttest.Command(1, vtpm.MaxBuffer))
	for _, r := range [][]byte{{}, failed[:9], append(append([]byte(nil), failed...), 0), append(long, 0)} {
		d := newDevice()
		d.start(first)
		d.tpm.Deliver(r)
		d.want(t, failed)
		if s := d.runner.Stats(); s.Malformed != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// A Transport is free before it delivers: the late response of an aborted command comes
// while the next one is under way.
func TestLateResponse(t *testing.T) {
	d := newDevice()
	d.start(first)
	d.locked(d.runner.Abort)
	d.tpm.Free()
	d.start(second)
	d.tpm.Deliver(nil) // of the first
	d.want(t)
	d.tpm.Deliver(nil)
	d.want(t, fronttest.Answer(2, second))
	if s := d.runner.Stats(); s.Late != 1 || s.Aborts != 1 || d.tpm.Cancels() != 1 {
		t.Errorf("%+v, %d cancels", s, d.tpm.Cancels())
	}
}

// While the TPM still runs an aborted command, the next one waits for its end.
func TestParkedCommand(t *testing.T) {
	d := newDevice()
	d.start(first)
	d.locked(d.runner.Abort)
	d.start(second)
	if d.tpm.Taken() != 1 {
		t.Fatal("the TPM took two commands")
	}
	d.tpm.Deliver(nil)
	d.want(t)
	if d.tpm.Taken() != 2 {
		t.Fatal("the second command was not taken")
	}
	d.tpm.Deliver(nil)
	d.want(t, fronttest.Answer(2, second))

	// Parked commands end in three ways without the TPM.
	d.start(first)
	d.locked(d.runner.Abort)
	d.start(second)
	d.locked(d.runner.Cancel)
	d.want(t, canceled)
	d.start(second)
	d.locked(d.runner.Abort)
	d.start(third)
	d.clock.Advance(int64(3 * time.Second))
	d.want(t, tooBusy)
	d.tpm.Deliver(nil)
	d.want(t)
	if n := d.tpm.Taken(); n != 3 {
		t.Errorf("the TPM took %d commands", n)
	}
}

// The TPM works for somebody else, whose end nobody reports.
func TestBusyTransport(t *testing.T) {
	d := newDevice()
	d.tpm.Occupy()
	d.start(first)
	d.clock.Advance(int64(100 * time.Millisecond))
	d.want(t)
	d.tpm.Free()
	d.clock.Advance(int64(time.Millisecond))
	d.tpm.Deliver(nil)
	d.want(t, fronttest.Answer(2, first))
	d.clock.Advance(int64(10 * time.Second))
	d.want(t)
}

func TestCancel(t *testing.T) {
	d := newDevice()
	d.locked(d.runner.Cancel)
	d.locked(d.runner.Abort)
	if d.tpm.Cancels() != 0 {
		t.Error("a cancel without a command")
	}
	d.start(first)
	d.locked(d.runner.Cancel)
	d.want(t)
	d.tpm.Deliver(canceled)
	d.want(t, canceled)
	if s := d.runner.Stats(); s.Cancels != 1 || d.tpm.Cancels() != 1 {
		t.Errorf("%+v, %d cancels", s, d.tpm.Cancels())
	}
}
