package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// TPM executes commands, one at a time: the executor of the engine. go-tpm's
// transport.TPM has the same method.
type TPM interface {
	// Send executes a command and returns the whole response. An error means that the
	// TPM could not be reached; a TPM's refusal is a response.
	Send(command []byte) ([]byte, error)
}

// ErrTPM reports a TPM that cannot be reached or that answers nonsense.
var ErrTPM = errors.New("TPM")

// Code is a response code other than TPM_RC_SUCCESS (TPM 2.0 Part 2, §6.6).
type Code uint32

// Response codes that say something here.
const (
	rcInitialize Code = 0x100
	rcYielded    Code = 0x908
	rcTesting    Code = 0x90a
	rcNVRate     Code = 0x920
	rcRetry      Code = 0x922
)

// Error returns the code in the hexadecimal form that `tpm2_rc_decode` reads.
func (c Code) Error() string { return fmt.Sprintf("TPM response code %#x", uint32(c)) }

// passing tells whether the command may succeed when it is sent again as it is.
func (c Code) passing() bool {
	return c == rcRetry || c == rcYielded || c == rcTesting || c == rcNVRate
}

// Bounds of sending again: about a quarter of a second in all.
const (
	resends     = 8
	resendPause = time.Millisecond // doubles
)

// Resend returns a TPM that sends a command again, a bounded number of times, while the
// answer is TPM_RC_RETRY or another that asks for it. libtpms answers so at the first
// use of something with dictionary attack protection.
func Resend(tpm TPM) TPM { return resender{tpm} }

type resender struct{ tpm TPM }

// Send implements TPM.
func (r resender) Send(command []byte) ([]byte, error) {
	pause := resendPause
	for range resends {
		rsp, err := r.tpm.Send(command)
		if err != nil || len(rsp) < headerSize || !Code(be.Uint32(rsp[6:])).passing() {
			return rsp, err
		}
		time.Sleep(pause)
		pause *= 2
	}
	return r.tpm.Send(command)
}

// be reads and writes numbers as the TPM has them.
var be = binary.BigEndian

// call is a command that is being made.
type call struct {
	code    uint32
	handles []uint32
	// auth is the password for the first handle, nil where it needs none.
	auth   *[]byte
	params []byte
	// handle tells whether the response has a handle before its parameters.
	handle bool
}

// empty is the authorization of what nobody has taken ownership of.
var empty = new([]byte)

// run executes a call and returns the handle and the parameters of the response.
// Refusals are a Code, all else is ErrTPM.
func run(tpm TPM, c call) (uint32, *reply, error) {
	tag := uint16(tagNoSessions)
	b := make([]byte, headerSize, headerSize+64+len(c.params))
	for _, h := range c.handles {
		b = be.AppendUint32(b, h)
	}
	if c.auth != nil {
		tag = tagSessions
		// A password session: handle, no nonce, no attributes, the password.
		b = be.AppendUint32(b, uint32(9+len(*c.auth)))
		b = be.AppendUint32(b, rsPassword)
		b = append(b, 0, 0, 0)
		b = appendSized(b, *c.auth)
	}
	b = append(b, c.params...)
	be.PutUint16(b, tag)
	be.PutUint32(b[2:], uint32(len(b)))
	be.PutUint32(b[6:], c.code)

	rsp, err := tpm.Send(b)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: command %#x: %w", ErrTPM, c.code, err)
	}
	r := &reply{rest: rsp}
	gotTag, size, code := r.u16(), r.u32(), Code(r.u32())
	if r.short || uint64(size) != uint64(len(rsp)) {
		return 0, nil, fmt.Errorf("%w: command %#x: a response of %d bytes is malformed", ErrTPM, c.code, len(rsp))
	}
	if code != 0 {
		return 0, nil, code
	}
	var handle uint32
	if c.handle {
		handle = r.u32()
	}
	if gotTag == tagSessions {
		n := r.u32()
		r.rest = r.bytes(n)
	}
	if gotTag != tag || r.short {
		return 0, nil, fmt.Errorf("%w: command %#x: the response is malformed", ErrTPM, c.code)
	}
	return handle, r, nil
}

func appendSized(b, p []byte) []byte { return append(be.AppendUint16(b, uint16(len(p))), p...) }

// reply takes a response apart. After the first read past its end it returns zeroes
// and short stays true.
type reply struct {
	rest  []byte
	short bool
}

func (r *reply) bytes(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.rest)) {
		r.short = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reply) u8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reply) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return be.Uint16(b)
	}
	return 0
}

func (r *reply) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

// sized returns the contents of a TPM2B.
func (r *reply) sized() []byte { return r.bytes(uint32(r.u16())) }

// check returns ErrTPM where a read went past the end.
func (r *reply) check(what string) error {
	if r.short {
		return fmt.Errorf("%w: the response with %s is too short", ErrTPM, what)
	}
	return nil
}
