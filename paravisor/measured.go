package paravisor

import (
	"fmt"
	"io"
	"strings"

	"keel/paravisor/fwcfg"
	"keel/paravisor/guestload"
	"keel/paravisor/measure"
	"keel/vtpm/eventlog"
)

// inputs returns what decides what the guest becomes. The payload is in its memory.
func (m *machine) inputs(p *payload, boot guestload.Boot, configuration []byte, banks []eventlog.Algorithm) (measure.Inputs, error) {
	in := measure.Inputs{Version: Version, Configuration: configuration, Hints: paramNames(boot.Hints), CommandLine: boot.CommandLine}
	var err error
	if in.Image, err = programs(banks); err != nil {
		return in, err
	}
	for _, t := range m.tables {
		h, err := measure.NewHasher(banks)
		if err != nil {
			return in, err
		}
		_, _ = h.Write(t.Data)
		in.Tables = append(in.Tables, h.Object(t.Name))
	}
	if in.Kernel, err = p.digest(&p.kernelFile, "kernel", banks); err != nil || p.initrdFile == nil {
		return in, err
	}
	initrd, err := p.digest(p.initrdFile, "initrd", banks)
	in.Initrd = &initrd
	return in, err
}

// paramNames returns the names of kernel parameters without their values. The frequency
// of a clock is measured anew at each start of the VM: sealed to its digits, nothing
// would ever be unsealed.
func paramNames(params string) string {
	names := strings.Fields(params)
	for i, p := range names {
		names[i], _, _ = strings.Cut(p, "=")
	}
	return strings.Join(names, " ")
}

// digest measures a file of the payload as the guest has it: the parts that were loaded
// from its memory, the start from Keel's own copy. The rest the guest has not got.
func (p *payload) digest(f *source, name string, banks []eventlog.Algorithm) (measure.Object, error) {
	h, err := measure.NewHasher(banks)
	if err != nil {
		return measure.Object{}, err
	}
	at := uint64(0)
	for _, s := range f.segments {
		if s.Offset < at { // the guest would have bytes twice, and the log one of them
			return measure.Object{}, fmt.Errorf("%w: parts of %s overlap", errLoad, f.Name)
		}
		if err := p.skip(h, f, at, s.Offset); err != nil {
			return measure.Object{}, err
		}
		loaded, err := p.memory.Slice(s.GPA, int(s.Size))
		if err != nil {
			return measure.Object{}, fmt.Errorf("%w: %w", errLoad, err)
		}
		_, _ = h.Write(loaded)
		at = s.Offset + s.Size
	}
	if err := p.skip(h, f, at, max(at, uint64(f.Size))); err != nil {
		return measure.Object{}, err
	}
	return h.Object(name), nil
}

// skip measures a part of a file that was not loaded.
func (p *payload) skip(h io.Writer, f *source, from, to uint64) error {
	if from < uint64(len(f.head)) {
		n := min(to, uint64(len(f.head)))
		_, _ = h.Write(f.head[from:n])
		from = n
	}
	chunk := make([]byte, min(to-from, guestload.HeadSize))
	for from < to {
		n := min(to-from, uint64(len(chunk)))
		if err := p.files.Read(f.File, from, chunk[:n]); err != nil {
			return fmt.Errorf("%w: %s: %w", errLoad, f.Name, err)
		}
		_, _ = h.Write(chunk[:n])
		from += n
	}
	return nil
}

// source is a file of the payload.
type source struct {
	fwcfg.File
	head     []byte              // its start, which planning has looked at
	segments []guestload.Segment // parts that go to guest memory, ascending
}
