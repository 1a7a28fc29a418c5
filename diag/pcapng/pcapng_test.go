package pcapng_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"keel/diag/pcapng"
)

// TestCapture compares a capture with its bytes by the draft, sections 4.1 to 4.3 and 4.6.
func TestCapture(t *testing.T) {
	var b bytes.Buffer
	start := time.Unix(1, 5)
	w, err := pcapng.NewWriter(&b, "Keel", start, []pcapng.Interface{{Name: "d0", Link: pcapng.LinkRaw}, {Link: pcapng.LinkRaw}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Packet(1, time.Unix(4, 294967296), []byte{1, 2, 3, 4, 5}, 9); err != nil {
		t.Fatal(err)
	}
	if err := w.Statistics(0, time.Unix(2, 0), pcapng.Statistics{Received: 7, Dropped: 3}); err != nil {
		t.Fatal(err)
	}
	want := strings.Join(strings.Fields(`
		0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff  0400 0400 4b65656c  0000 0000 28000000
		01000000 28000000 6500 0000 00000400  0200 0200 64300000  0900 0100 09000000  0000 0000 28000000
		01000000 20000000 6500 0000 00000400  0900 0100 09000000  0000 0000 20000000
		06000000 28000000 01000000 01000000 00000000 05000000 09000000 0102030405000000 28000000
		05000000 4c000000 00000000 00000000 00943577
			0200 0800 00000000 05ca9a3b  0300 0800 00000000 00943577
			0400 0800 0700000000000000  0500 0800 0300000000000000  0000 0000 4c000000`), "")
	if got := hex.EncodeToString(b.Bytes()); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	blocks, err := pcapng.Split(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []uint32
	for _, block := range blocks {
		kinds = append(kinds, block.Kind)
	}
	if len(kinds) != 5 || kinds[0] != pcapng.BlockSection || kinds[2] != pcapng.BlockInterface || kinds[3] != pcapng.BlockPacket || kinds[4] != pcapng.BlockStatistics {
		t.Errorf("blocks %x", kinds)
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "", time.Now(), []pcapng.Interface{{Name: strings.Repeat("n", 4096)}})
	if err != nil {
		t.Fatal(err)
	}
	n := b.Len()
	for name, err := range map[string]error{
		"no interface":    w.Packet(1, time.Now(), nil, 0),
		"negative":        w.Packet(-1, time.Now(), nil, 0),
		"too long":        w.Packet(0, time.Now(), make([]byte, 1<<18+1), 1<<19),
		"longer than all": w.Packet(0, time.Now(), make([]byte, 4), 3),
		"statistics":      w.Statistics(1, time.Now(), pcapng.Statistics{}),
	} {
		if !errors.Is(err, pcapng.ErrPacket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.Len() != n || n > 1024 {
		t.Errorf("%d bytes, then %d", n, b.Len())
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, x := range []string{
		"0a0d0d0a",
		"0a0d0d0a 0b000000 0b0000",
		"0a0d0d0a 0d000000 00000000 0d",
		"0a0d0d0a 10000000 00000000 0c000000",
		"0a0d0d0a ffffffff 00000000 ffffffff",
		"0a0d0d0a 0c000000 0c000000 00",
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(x, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if all, err := pcapng.Split(raw); !errors.Is(err, pcapng.ErrBlock) {
			t.Errorf("%s: %v, %v", x, all, err)
		}
	}
	if all, err := pcapng.Split(nil); err != nil || all != nil {
		t.Errorf("nothing: %v, %v", all, err)
	}
}
