// Package engine is the TPM itself: libtpms, TPM 2.0, behind cgo. Its state is global to
// the process: there is one TPM in it, and one command at a time.
//
// It is the only room with cgo, and only the worker links it. C code reads untrusted
// commands here, so nothing else that matters lives in the same process.
package engine

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ltpms -lcrypto -ldl -lpthread
#include <libtpms/tpm_library.h>
#include "glue.h"
*/
import "C" //nolint:depguard // this is cgo: it names unsafe in what it generates, the code here does not

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// MaxResponse is the size of the largest response, in bytes.
const MaxResponse = 3968

var (
	// ErrPrepare says that libcrypto did not start.
	ErrPrepare = errors.New("libcrypto does not start")
	// ErrStart says that the TPM did not power on. Its cause is a Code: the state that
	// was given is damaged, of a newer libtpms, or not of a TPM 2.0.
	ErrStart = errors.New("the TPM does not power on")
	// ErrExecute says that the engine could not run a command at all. What the TPM
	// itself refuses is a response, not an error.
	ErrExecute = errors.New("the TPM does not run the command")
	// ErrFrame says that the peer of Serve sent something else than whole commands.
	ErrFrame = errors.New("no command in a frame")
	// ErrBusy says that this process has a TPM already.
	ErrBusy = errors.New("this process has a TPM")
)

// Code is a status of libtpms (TPM_RESULT), TPM_SUCCESS excepted.
type Code uint32

// Error returns the status as text.
func (c Code) Error() string { return fmt.Sprintf("libtpms status %#x", uint32(c)) }

// Engine is a TPM that has power. Its methods are called by one goroutine at a time.
type Engine struct {
	permanent []byte // grows to the size of the state
	changed   int    // bytes of permanent that Permanent has not returned
	volatile  [maxVolatile]byte
	response  [MaxResponse]byte // of Serve
}

// maxVolatile is above every volatile state: libtpms counts its bytes in 16 bits.
const maxVolatile = 64 << 10

var powered atomic.Bool

// Prepare does once what libcrypto needs files and rare system calls for. Call it
// before a sandbox closes.
func Prepare() error {
	if C.keel_prepare() != 1 {
		return ErrPrepare
	}
	return nil
}

// New gives the TPM power (_TPM_Init, Library part 1 §12.2.2). Without permanent state a
// new TPM is manufactured. With volatile state the TPM goes on where it was saved, no
// Startup needed, its random numbers apart: they never repeat.
func New(permanent, volatile []byte) (*Engine, error) {
	if !powered.CompareAndSwap(false, true) {
		return nil, ErrBusy
	}
	e := &Engine{}
	if rc := C.keel_start(address(permanent), C.uint32_t(len(permanent)), address(volatile), C.uint32_t(len(volatile))); rc != 0 {
		e.Close()
		return nil, fmt.Errorf("%w: %w", ErrStart, Code(rc))
	}
	e.take()
	if len(volatile) > 0 {
		if err := e.stir(); err != nil {
			e.Close()
			return nil, err
		}
	}
	return e, nil
}

// Close takes the power away. A TPM that New starts with what Permanent returned is the
// same TPM after a reset.
func (e *Engine) Close() {
	C.keel_stop()
	powered.Store(false)
}

// Execute runs a command that came in at a locality, writes the response to out and
// returns its size. out holds at least MaxResponse bytes. The command's bytes are
// changed: parameters are decrypted in place.
func (e *Engine) Execute(locality uint8, command, out []byte) (int, error) {
	if len(command) == 0 || len(out) < MaxResponse {
		return 0, fmt.Errorf("%w: %d bytes with room for %d", ErrExecute, len(command), len(out))
	}
	n := C.uint32_t(len(out))
	rc := C.keel_process(C.uint8_t(locality), address(command), C.uint32_t(len(command)), address(out), &n)
	if rc != 0 {
		return 0, fmt.Errorf("%w: %w", ErrExecute, Code(rc))
	}
	e.take()
	return int(n), nil
}

// Served is a command that Serve has run, whose answer it leaves to its caller.
type Served struct {
	Seq      uint64 // its number
	Response []byte // valid until the next command
}

// Serve reads commands from a socket, in frames of package wire, and answers them, until
// one changes state that its answer has to carry: see wire.Effect. The error is io.EOF
// where the peer has closed its end. It wraps ErrFrame where the peer sent something else
// than whole commands, ErrExecute where the engine could not run the command of Seq, or
// it is one of the socket.
func (e *Engine) Serve(fd int) (Served, error) {
	var rest C.struct_keel_rest
	why := C.keel_serve(C.int(fd), address(e.response[:]), &rest)
	s := Served{Seq: uint64(rest.seq)}
	switch why {
	case C.KEEL_END:
		return s, io.EOF
	case C.KEEL_FRAME:
		return s, ErrFrame
	case C.KEEL_FAILED:
		return s, fmt.Errorf("%w: %w", ErrExecute, Code(rest.code))
	case C.KEEL_SOCKET:
		return s, unix.Errno(rest.code)
	}
	e.take()
	s.Response = e.response[:rest.len]
	return s, nil
}

// Cancel asks the command of that number to end with TPM_RC_CANCELED, now or once it
// comes, and tells whether it runs. Repeat it then until it does not: the engine forgets
// cancels that come before it looks at the command. Any goroutine may call it, at any time.
func Cancel(seq uint64) bool { return C.keel_cancel(C.uint64_t(seq)) != 0 }

// Permanent returns the state that must outlive power, when it changed since the last
// call, and nil when it did not. It is valid until the next command.
func (e *Engine) Permanent() []byte {
	n := e.changed
	e.changed = 0
	if n == 0 {
		return nil
	}
	return e.permanent[:n]
}

// take copies what the engine stored, if it did.
func (e *Engine) take() {
	n := C.keel_stored(nil, 0)
	if n == 0 {
		return
	}
	if int(n) > len(e.permanent) {
		e.permanent = make([]byte, n)
	}
	C.keel_stored(address(e.permanent), n)
	e.changed = int(n)
}

// Volatile returns the state that a TPM keeps while it has power: PCRs, sessions,
// loaded objects. It is valid until the next call.
func (e *Engine) Volatile() ([]byte, error) {
	n := C.uint32_t(len(e.volatile))
	if rc := C.keel_volatile(address(e.volatile[:]), &n); rc != 0 {
		return nil, fmt.Errorf("%w: volatile state: %w", ErrExecute, Code(rc))
	}
	return e.volatile[:n], nil
}

// stir mixes fresh entropy into the TPM's generator, whose state is part of the
// volatile state: a TPM that is restored twice must not produce the same nonces twice.
func (e *Engine) stir() error {
	const fresh = 48
	cmd := make([]byte, 12+fresh)
	binary.BigEndian.PutUint16(cmd, tagNoSessions)
	binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
	binary.BigEndian.PutUint32(cmd[6:], ccStirRandom)
	binary.BigEndian.PutUint16(cmd[10:], fresh)
	if _, err := rand.Read(cmd[12:]); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	out := make([]byte, MaxResponse)
	_, err := e.Execute(0, cmd, out)
	return err
}

// address returns the address of a slice's first byte, nil for an empty one.
func address(b []byte) *C.uint8_t {
	if len(b) == 0 {
		return nil
	}
	return (*C.uint8_t)(&b[0])
}

// Library part 2: §6.5.2 (command codes), §6.9 (structure tags).
const (
	tagNoSessions = 0x8001
	ccStirRandom  = 0x146
)
