package fronttest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// opSize is the length of a coded operation, and maxOps how many of them Play performs.
const (
	opSize = 4
	maxOps = 2048
)

// Model is an interface with what a test knows beside it.
type Model interface {
	// Operate performs one coded operation of four bytes: an access of a VP, or the end
	// of a command.
	Operate(op []byte)
	// Verify checks what must hold after each operation.
	Verify(t *testing.T)
}

// Play performs the operations of a stream.
func Play(t *testing.T, m Model, stream []byte) {
	t.Helper()
	for n := 0; len(stream) >= opSize && n < maxOps; n++ {
		m.Operate(stream[:opSize])
		stream = stream[opSize:]
		m.Verify(t)
		if t.Failed() {
			t.Fatalf("after operation %d", n)
		}
	}
}

// PlayRandom plays random streams, half of them of two localities alone.
func PlayRandom(t *testing.T, newModel func() Model) {
	t.Helper()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		stream := make([]byte, 600*opSize)
		for i := range stream {
			stream[i] = byte(r.Uint32())
			if i%opSize == 1 && seed&1 == 0 {
				stream[i] = byte(r.IntN(2))
			}
		}
		Play(t, newModel(), stream)
	}
}

// Local tells whether a response begins as one that the interface gave itself does:
// TPM_RC_FAILURE, COMMAND_SIZE, CANCELED or RETRY alone (TPM 2.0 Part 2 §6.6).
func Local(response []byte) bool {
	if len(response) < headerSize || binary.BigEndian.Uint32(response[2:]) != headerSize {
		return false
	}
	switch binary.BigEndian.Uint32(response[6:]) {
	case 0x101, 0x142, 0x909, 0x922:
		return true
	}
	return false
}

// newWait returns what a driver does between two looks at a register.
func newWait() func() {
	n := 0
	return func() {
		if n++; n%64 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		runtime.Gosched()
	}
}

// Driver is a guest's driver of an interface. Its methods are called from several VPs.
type Driver struct {
	// Send sends a command and returns the response, or false when the TPM was seized
	// meanwhile. wait is for between two looks at a register.
	Send    func(locality uint64, command []byte, wait func()) ([]byte, bool)
	Seize   func(locality uint64)
	Release func(locality uint64)
}

// Contend uses a TPM from four localities at the same time, each on a VP of its own; the
// highest seizes it now and then. Each must see the answers to its own commands and
// nothing else. It returns when tpm has delivered all responses.
func Contend(t *testing.T, tpm *Echo, d Driver) {
	t.Helper()
	var wg sync.WaitGroup
	for l := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(l, 4))
			wait := newWait()
			for n := range uint64(40) {
				if l == 3 && r.IntN(3) == 0 {
					d.Seize(l)
				}
				command := Command(l<<32|n, 18+r.IntN(50))
				response, ok := d.Send(l, command, wait)
				if want := Answer(byte(l), command); ok && !bytes.Equal(response, want) {
					t.Errorf("locality %d got %x, want %x", l, response, want)
				}
			}
			d.Release(l)
		})
	}
	wg.Wait()
	tpm.Wait()
}
