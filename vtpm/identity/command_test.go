package identity

import (
	"errors"
	"testing"

	"keel/vtpm/eventlog"
)

// answers is a TPM that gives prepared responses, the last one again and again.
type answers struct {
	responses [][]byte
	sent      int
}

func (a *answers) Send([]byte) ([]byte, error) {
	i := min(a.sent, len(a.responses)-1)
	a.sent++
	return a.responses[i], nil
}

func response(code Code) []byte {
	return be.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(code))
}

func TestResend(t *testing.T) {
	for _, c := range []struct {
		responses [][]byte
		sent      int
		code      Code
	}{
		{[][]byte{response(0)}, 1, 0},
		{[][]byte{response(rcRetry), response(rcTesting), response(0)}, 3, 0},
		{[][]byte{response(rcBadAuth)}, 1, rcBadAuth},
		{[][]byte{response(rcRetry)}, resends + 1, rcRetry}, // in the end the caller learns it
	} {
		a := &answers{responses: c.responses}
		rsp, err := Resend(a).Send(nil)
		if err != nil || a.sent != c.sent || Code(be.Uint32(rsp[6:])) != c.code {
			t.Errorf("sent %d times, %x, %v; want %d times and %v", a.sent, rsp, err, c.sent, c.code)
		}
	}
}

func TestMalformedResponses(t *testing.T) {
	for name, rsp := range map[string][]byte{
		"nothing":                 {},
		"half a header":           response(0)[:8],
		"size too large":          {0x80, 0x01, 0, 0, 0, 11, 0, 0, 0, 0},
		"size too small":          append(response(0), 0),
		"sessions nobody sent":    {0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0},
		"parameters past the end": {0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 1},
	} {
		if _, _, err := run(&answers{responses: [][]byte{rsp}}, call{code: ccStartup}); !errors.Is(err, ErrTPM) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownBank(t *testing.T) {
	sm3 := append(response(0), 0, 0, 0, 0, capPCRs, 0, 0, 0, 1, 0, 0x12, 3, 0xff, 0xff, 0xff)
	sm3[5] = byte(len(sm3))
	if banks, err := Banks(&answers{responses: [][]byte{sm3}}); !errors.Is(err, ErrTPM) {
		t.Errorf("an active bank without a hash: %v, %v", banks, err)
	}
	copy(sm3[len(sm3)-3:], []byte{0, 0, 0})
	if banks, err := Banks(&answers{responses: [][]byte{sm3}}); err != nil || len(banks) != 0 {
		t.Errorf("an inactive bank without a hash: %v, %v", banks, err)
	}
}

// FuzzResponses answers every command with what a fuzzer makes of responses: nothing may
// panic, loop or be believed that is too large.
func FuzzResponses(f *testing.F) {
	f.Add(response(0))
	f.Add(append(response(0), 0, 0, 0, 0, capPCRs, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff))
	f.Add(append(response(0), 1, 0, 0, 0, capProperties, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1))
	f.Add(append([]byte{0x80, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, 0, 0))
	ca, err := NewTestCA()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		a := &fuzzed{b: b}
		if _, err := Open(a, Options{Issuer: ca, Reset: func() error { return nil }}); err != nil && !errors.Is(err, ErrProvision) {
			t.Fatal(err)
		}
		if a.sent > 5000 {
			t.Fatalf("%d commands", a.sent)
		}
		if _, err := Banks(&fuzzed{b: b}); err == nil {
			return
		}
		if err := Extend(&fuzzed{b: b}, 0, eventlog.Sum(eventlog.Supported(), b)); err == nil && len(b) < headerSize {
			t.Fatal("a response without a header was a success")
		}
	})
}

// fuzzed gives the fuzzer's bytes a header that passes.
type fuzzed struct {
	b    []byte
	sent int
}

func (z *fuzzed) Send(command []byte) ([]byte, error) {
	z.sent++
	rsp := append([]byte(nil), z.b...)
	if len(rsp) >= headerSize && rsp[0]&1 == 0 {
		copy(rsp, command[:2])
		be.PutUint32(rsp[2:], uint32(len(rsp)))
		if Code(be.Uint32(rsp[6:])).passing() {
			be.PutUint32(rsp[6:], 0)
		}
	}
	return rsp, nil
}
