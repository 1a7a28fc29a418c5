package fwcfg

import (
	"encoding/binary"
	"errors"
	"testing"
)

func entry(name string, size uint32, key uint16) []byte {
	e := make([]byte, entrySize)
	binary.BigEndian.PutUint32(e, size)
	binary.BigEndian.PutUint16(e[4:], key)
	copy(e[8:], name)
	return e
}

func TestDirectory(t *testing.T) {
	raw := append(entry("opt/keel/config", 17, 0x20), entry("opt/keel/kernel", 1<<20, 0x21)...)
	raw = append(raw, entry("opt/keel/config", 99, 0x22)...) // a second one of the name is ignored
	raw = append(raw, 1, 2, 3)                               // half an entry is ignored
	files := parseDirectory(raw)
	if len(files) != 2 {
		t.Fatalf("%d files, want 2", len(files))
	}
	if f := files["opt/keel/config"]; f.Size != 17 || f.key != 0x20 {
		t.Errorf("config: %+v", f)
	}
	d := Device{files: files}
	if _, err := d.Find("opt/keel/initrd"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a missing file: %v, want ErrNotFound", err)
	}
}

func TestReadsStayInsideTheFile(t *testing.T) {
	f := File{Name: "f", Size: 100}
	for _, c := range []struct {
		offset uint64
		n      int
		ok     bool
	}{{0, 100, true}, {100, 0, true}, {99, 1, true}, {99, 2, false}, {101, 0, false}, {1 << 63, 1, false}} {
		if err := f.check(c.offset, c.n); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrBounds)) {
			t.Errorf("%d bytes at %d: %v, want ok=%v", c.n, c.offset, err, c.ok)
		}
	}
}

func FuzzDirectory(f *testing.F) {
	f.Add(entry("a", 1, 2))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for name, file := range parseDirectory(raw) {
			if name != file.Name || len(name) > nameSize {
				t.Errorf("entry %q is filed under %q", file.Name, name)
			}
		}
	})
}
