package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestRoundTrip(t *testing.T) {
	big := bytes.Repeat([]byte{0x5A}, MaxPermanent)
	frames := []Frame{
		{Kind: Init, Seq: 1},
		{Kind: Init, Seq: 1, Permanent: big, Volatile: big[:MaxVolatile]},
		{Kind: Done, Seq: 1, Status: BadState},
		{Kind: Execute, Seq: 2, Locality: 4, Body: []byte{1}},
		{Kind: Cancel, Seq: 2},
		{Kind: Done, Seq: 2, Body: big[:MaxBody], Permanent: big, Volatile: []byte{7}},
		{Kind: Execute, Seq: 1<<64 - 1, Body: big[:MaxBody], Effect: Keeps},
	}
	var stream []byte
	for i := range frames {
		var err error
		if stream, err = Append(stream, &frames[i]); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]io.Reader{
		"at once":        bytes.NewReader(stream),
		"in single byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"eof with data":  iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			rd := NewReader(r)
			for i := range frames {
				f, err := rd.Read()
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if !equal(&f, &frames[i]) {
					t.Errorf("frame %d is %+v", i, f)
				}
			}
			if _, err := rd.Read(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

func equal(a, b *Frame) bool {
	return a.Kind == b.Kind && a.Locality == b.Locality && a.Status == b.Status && a.Seq == b.Seq && a.Effect == b.Effect &&
		bytes.Equal(a.Body, b.Body) && bytes.Equal(a.Permanent, b.Permanent) && bytes.Equal(a.Volatile, b.Volatile)
}

// head returns a header as a peer might send it.
func head(change func(b []byte)) []byte {
	b, _ := Append(nil, &Frame{Kind: Done, Seq: 9})
	change(b)
	return b
}

func TestHostile(t *testing.T) {
	le := binary.LittleEndian
	tests := map[string][]byte{
		"magic":             head(func(b []byte) { b[3]++ }),
		"kind 0":            head(func(b []byte) { b[4] = 0 }),
		"unknown kind":      head(func(b []byte) { b[4] = uint8(Done) + 1 }),
		"unknown status":    head(func(b []byte) { b[5] = uint8(Failed) + 1 }),
		"reserved":          head(func(b []byte) { b[7] = 1 }),
		"done and effect":   head(func(b []byte) { b[6] = 1 }),
		"unknown effect":    head(func(b []byte) { b[4], b[6], b[16] = uint8(Execute), uint8(Keeps)+1, 1 }),
		"reserved at end":   head(func(b []byte) { b[31] = 1 }),
		"body too long":     head(func(b []byte) { le.PutUint32(b[16:], MaxBody+1) }),
		"permanent":         head(func(b []byte) { le.PutUint32(b[20:], MaxPermanent+1) }),
		"volatile":          head(func(b []byte) { le.PutUint32(b[24:], MaxVolatile+1) }),
		"wrapping lengths":  head(func(b []byte) { le.PutUint32(b[16:], 1<<31); le.PutUint32(b[20:], 1<<31) }),
		"all ones":          bytes.Repeat([]byte{0xFF}, HeaderSize),
		"locality 5":        head(func(b []byte) { b[4], b[5], b[16] = uint8(Execute), 5, 1 }),
		"execute nothing":   head(func(b []byte) { b[4] = uint8(Execute) }),
		"execute with NV":   head(func(b []byte) { b[4], b[16], b[20] = uint8(Execute), 1, 1 }),
		"cancel with body":  head(func(b []byte) { b[4], b[16] = uint8(Cancel), 1 }),
		"init with a body":  head(func(b []byte) { b[4], b[16] = uint8(Init), 1 }),
		"init and locality": head(func(b []byte) { b[4], b[5] = uint8(Init), 1 }),
	}
	for name, b := range tests {
		r := NewReader(bytes.NewReader(b))
		if _, err := r.Read(); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.buf) > 16<<10 {
			t.Errorf("%s: %d bytes allocated for a bad header", name, len(r.buf))
		}
	}
}

func TestTruncated(t *testing.T) {
	b, err := Append(nil, &Frame{Kind: Done, Body: []byte{1, 2, 3}, Permanent: []byte{4}})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := NewReader(bytes.NewReader(b[:n])).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestAppendBounds(t *testing.T) {
	big := make([]byte, MaxPermanent+1)
	for _, f := range []Frame{
		{},
		{Kind: Done + 1},
		{Kind: Execute},
		{Kind: Execute, Body: big[:MaxBody+1]},
		{Kind: Execute, Body: big[:1], Locality: 5},
		{Kind: Execute, Body: big[:1], Volatile: big[:1]},
		{Kind: Cancel, Body: big[:1]},
		{Kind: Cancel, Effect: Repeats},
		{Kind: Execute, Body: big[:1], Effect: Keeps + 1},
		{Kind: Done, Permanent: big},
		{Kind: Done, Volatile: big[:MaxVolatile+1]},
		{Kind: Done, Status: Failed + 1},
	} {
		if b, err := Append([]byte{1}, &f); !errors.Is(err, ErrBounds) || len(b) != 1 {
			t.Errorf("kind %d: %d bytes, %v", f.Kind, len(b), err)
		}
	}
}

func TestNoProgress(t *testing.T) {
	if _, err := NewReader(stuck{}).Read(); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// FuzzReader: whatever a peer sends, frames stay within their bounds, and what is
// accepted is what Append would have sent.
func FuzzReader(f *testing.F) {
	for _, s := range []Frame{
		{Kind: Init, Seq: 1, Permanent: []byte{1}, Volatile: []byte{2}},
		{Kind: Execute, Seq: 2, Locality: 4, Effect: Repeats, Body: []byte{0x80, 1}},
		{Kind: Cancel, Seq: 2},
		{Kind: Done, Seq: 2, Status: Failed, Body: []byte{0x80, 1}, Permanent: []byte{3}, Volatile: []byte{4}},
	} {
		b, err := Append(nil, &s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...))
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(stream)))
		var again []byte
		for {
			fr, err := r.Read()
			if err != nil {
				break
			}
			if again, err = Append(again, &fr); err != nil {
				t.Fatalf("read what may not be sent: %v", err)
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("%x was read as %x", stream, again)
		}
		if len(r.buf) > HeaderSize+MaxBody+MaxPermanent+MaxVolatile {
			t.Fatalf("%d bytes of buffer", len(r.buf))
		}
	})
}
