package emutee

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestModel runs random operations on the table and on the model.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, err := NewRMP(modelPages<<12, false)
		if err != nil {
			t.Fatal(err)
		}
		m := newModel()
		mask := byte(3) // few pages, so that operations meet
		if seed%2 == 1 {
			mask = 0xff
		}
		for range 5000 {
			var b [stepSize]byte
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			b[1] &= mask
			b[2] &= 3
			step(t, r, m, b[:])
		}
		compare(t, r, m)
	}
}

// FuzzOperations lets the fuzzer find a sequence on which table and model differ.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{4, 0, 0, 1, 0, 4, 0, 0, 0, 1, 0, 1, 2, 0, 0, 1, 8, 7, 5, 0, 0, 0, 0, 0})
	f.Add([]byte{4, 5, 0, 0, 0, 4, 0, 5, 0, 0, 0, 1, 2, 5, 0, 0, 8, 0x47, 7, 5, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewRMP(modelPages<<12, false)
		if err != nil {
			t.Fatal(err)
		}
		m := newModel()
		for len(b) >= stepSize {
			step(t, r, m, b[:stepSize])
			b = b[stepSize:]
		}
		compare(t, r, m)
	})
}

// FuzzPageStateChanges: a structure from a hostile guest is worked through within
// its bounds; only the current entry changes in it; and the last entry, if it
// succeeded, says what is true.
func FuzzPageStateChanges(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0x30, 0, 0, 0, 0, 0x20, 0})
	f.Add([]byte{1, 0, 0xff, 0xff})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, area []byte) {
		r, err := NewRMP(modelPages<<12, false)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(area)
		code := r.PageStateChanges(area)
		if len(area) < snp.PSC_ENTRIES || !bytes.Equal(area[2:], before[2:]) {
			if code != snp.PSC_ERROR_INVALID_HDR {
				t.Fatalf("error %#x", code)
			}
			return
		}
		le := binary.LittleEndian
		first, next, last := le.Uint16(before), le.Uint16(area), le.Uint16(area[snp.PSC_END_ENTRY:])
		switch {
		case code == snp.PSC_ERROR_INVALID_HDR || first > last:
			if next != first {
				t.Errorf("entry %d became %d", first, next)
			}
		case code != 0:
			if next < first || next > last {
				t.Errorf("entry %d failed, of %d to %d", next, first, last)
			}
		case next != last+1:
			t.Errorf("ended at entry %d, of %d to %d", next, first, last)
		default:
			entry := le.Uint64(area[snp.PSC_ENTRIES+int(last)*snp.PSC_ENTRY_SIZE:])
			p, covered := r.Page(x86.GPA(entry >> snp.PSC_GFN_SHIFT & snp.PSC_GFN_MASK << x86.PageShift))
			op := entry >> snp.PSC_OP_SHIFT & snp.PSC_OP_MASK
			if !covered || op == snp.PSC_OP_PRIVATE && !p.Assigned || op == snp.PSC_OP_SHARED && p.Assigned {
				t.Errorf("entry %#x: page %+v", entry, p)
			}
		}
	})
}
