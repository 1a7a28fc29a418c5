package gueststate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"keel/translate/blk"
)

// BenchmarkCommit measures what a commit costs above the disk (memory), and with a file
// and its fsync (file): a fresh TPM, a used one and a full one.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1300, 10 << 10, 143 << 10} {
		memory := newDisk(4096)
		memory.Change(func(i *blk.Info) { i.Volatile = false }) // its flush copies all of the disk
		path := filepath.Join(b.TempDir(), "state")
		if err := os.WriteFile(path, make([]byte, MinDisk), 0o600); err != nil {
			b.Fatal(err)
		}
		file, err := OpenFile(path, true)
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		for name, disk := range map[string]blk.Disk{"memory": memory, "file": file} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s := mustOpen(b, disk, options())
				content := stamp(1, size)
				mustCommit(b, s, "first")
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Commit(content); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
