package sys

import (
	"encoding/binary"
	"testing"
)

func TestWordsAliasTheBytes(t *testing.T) {
	b := make([]byte, 4096)
	w := Words(b)
	if len(w) != 1024 {
		t.Fatalf("4096 bytes are %d words", len(w))
	}
	w[1] = 0x11223344
	if got := binary.NativeEndian.Uint32(b[4:]); got != 0x11223344 {
		t.Errorf("word 1 is the bytes %#x", got)
	}
	binary.NativeEndian.PutUint32(b[4092:], 7)
	if w[1023] != 7 {
		t.Errorf("the last bytes are the word %#x", w[1023])
	}
}

func TestWordsRefusesWhatIsNoWord(t *testing.T) {
	b := make([]byte, 64)
	for _, c := range []struct {
		name string
		b    []byte
		want int
	}{
		{"nil", nil, 0},
		{"too short", b[:3], 0},
		{"not aligned", b[1:], 0},
		{"one and a half", b[4:10], 1},
	} {
		if got := len(Words(c.b)); got != c.want {
			t.Errorf("%s: %d words, want %d", c.name, got, c.want)
		}
	}
}
