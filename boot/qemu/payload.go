package qemu

import (
	"errors"
	"io"
	"os"

	"keel/boot/handoff"
)

// maxPayload bounds a kernel, an initrd or an image, in bytes. QEMU keeps
// each in memory and passes its size in 32 bits.
const maxPayload = 1 << 30

// errTooBig is the cause for a file beyond maxPayload.
var errTooBig = errors.New("larger than 1 GiB")

// errEmpty is the cause for a file of no bytes.
var errEmpty = errors.New("the file is empty")

// ReadFile returns the contents of a payload file. Its errors are of type
// *handoff.Failure with the given outcome; what names the file for people.
func ReadFile(path, what string, o handoff.Outcome) ([]byte, error) {
	b, err := readBounded(path)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: o, Cause: "cannot read the " + what, Remedy: "give an existing, readable file", Err: err,
		}
	}
	return b, nil
}

// readBounded reads a file, a pipe or a device up to maxPayload.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	if s, err := f.Stat(); err == nil && s.Size() > maxPayload {
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooBig}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPayload+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxPayload:
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooBig}
	case len(b) == 0:
		return nil, &os.PathError{Op: "read", Path: path, Err: errEmpty}
	}
	return b, nil
}
