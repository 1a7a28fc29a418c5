package initramfs

import (
	"bytes"
	"fmt"
	"os"
	"path"

	"github.com/u-root/u-root/pkg/cpio"
)

// archive collects records in the order in which a kernel unpacks them.
type archive struct {
	records []cpio.Record
	dirs    map[string]bool
}

// add appends records. A directory that the archive has already is left out, and
// the parents of a file are added before it: a kernel ignores a file whose
// directory does not exist.
func (a *archive) add(records ...cpio.Record) {
	if a.dirs == nil {
		a.dirs = map[string]bool{".": true}
	}
	for _, r := range records {
		r.Name = cpio.Normalize(r.Name)
		isDir := r.Mode&cpio.S_IFMT == cpio.S_IFDIR
		if isDir && a.dirs[r.Name] {
			continue
		}
		if parent := path.Dir(r.Name); !a.dirs[parent] {
			a.add(cpio.Directory(parent, 0o755))
		}
		if isDir {
			a.dirs[r.Name] = true
		}
		a.records = append(a.records, r)
	}
}

// program adds the executable file binary under name.
func (a *archive) program(name, binary string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	a.add(executable(name, data))
	return nil
}

// executable returns the record of a program.
func executable(name string, data []byte) cpio.Record {
	return cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | 0o755})
}

// bytes writes the archive. Inode numbers count from one in the order of the
// records and every time stamp is zero, so the bytes depend on the content only.
func (a *archive) bytes() ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, r := range a.records {
		r.Ino = uint64(i + 1)
		r.NLink = 1
		if err := w.WriteRecord(cpio.MakeReproducible(r)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return out.Bytes(), nil
}
