package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// command returns a command without sessions.
func command(cc uint32, parameters ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tagNoSessions)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(parameters)))
	b = binary.BigEndian.AppendUint32(b, cc)
	return append(b, parameters...)
}

// run returns the code and the parameters of a response.
func run(tb testing.TB, e *Engine, cmd []byte) (uint32, []byte) {
	tb.Helper()
	out := make([]byte, MaxResponse)
	n, err := e.Execute(0, cmd, out)
	if err != nil || n < 10 {
		tb.Fatalf("%x: %d bytes, %v", cmd, n, err)
	}
	return binary.BigEndian.Uint32(out[6:]), bytes.Clone(out[10:n])
}

func power(tb testing.TB, permanent, volatile []byte) *Engine {
	tb.Helper()
	e, err := New(permanent, volatile)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestStates(t *testing.T) {
	if err := Prepare(); err != nil {
		t.Fatal(err)
	}
	e := power(t, nil, nil)
	if _, err := New(nil, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second TPM: %v", err)
	}
	permanent := bytes.Clone(e.Permanent())
	if len(permanent) == 0 {
		t.Fatal("a new TPM stored nothing")
	}
	if e.Permanent() != nil {
		t.Error("the same state twice")
	}
	if rc, _ := run(t, e, command(0x144, 0, 0)); rc != 0 {
		t.Fatalf("Startup: %#x", rc)
	}
	if p := e.Permanent(); len(p) > 0 {
		permanent = bytes.Clone(p)
	}
	random := func(e *Engine) string {
		rc, r := run(t, e, command(0x17B, 0, 16))
		if rc != 0 || len(r) != 18 {
			t.Fatalf("GetRandom: %#x, %x", rc, r)
		}
		return string(r)
	}
	// All of the first two PCRs' SHA-256 bank is there.
	if rc, r := run(t, e, command(0x17E, 0, 0, 0, 1, 0, 0x0B, 3, 3, 0, 0)); rc != 0 || len(r) != 4+4+6+4+2*34 {
		t.Errorf("PCR_Read: %#x, %x", rc, r)
	}
	v, err := e.Volatile()
	if err != nil {
		t.Fatal(err)
	}
	volatile := bytes.Clone(v)
	first := random(e)
	e.Close()

	// With both it goes on, but its random numbers do not repeat.
	e = power(t, permanent, volatile)
	if r := random(e); r == first {
		t.Error("random numbers repeat")
	}
	if p := e.Permanent(); p != nil && !bytes.Equal(p, permanent) {
		t.Error("the state changed on the way")
	}
	e.Close()

	// With permanent state alone it was reset.
	e = power(t, permanent, nil)
	if rc, _ := run(t, e, command(0x17B, 0, 16)); rc != 0x100 {
		t.Errorf("before Startup: %#x", rc)
	}
	e.Close()

	for name, bad := range map[string][]byte{"zeros": make([]byte, 1000), "half": permanent[:len(permanent)/2]} {
		if _, err := New(bad, nil); !errors.Is(err, ErrStart) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e = power(t, permanent, nil)
	defer e.Close()
	if _, err := e.Execute(0, nil, make([]byte, MaxResponse)); !errors.Is(err, ErrExecute) {
		t.Errorf("no command: %v", err)
	}
	if _, err := e.Execute(0, command(0x17B, 0, 1), make([]byte, 10)); !errors.Is(err, ErrExecute) {
		t.Errorf("no room: %v", err)
	}
}
