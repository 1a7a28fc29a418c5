package scsi

import (
	"encoding/hex"
	"strings"
	"testing"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// big says that a disk has more blocks than READ CAPACITY(10) can tell.
type big struct{ blk.Disk }

func (b big) Info() blk.Info {
	i := b.Disk.Info()
	i.Blocks = 1 << 33
	return i
}

func raw(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// newDisk is another disk like plain's.
func newDisk() *blktest.Disk {
	i := plain()
	i.ID[0] = 0xee
	return blktest.New(i)
}
