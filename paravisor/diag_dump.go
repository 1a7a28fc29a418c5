package paravisor

import (
	"bytes"
	"context"
	"time"

	"keel/diag/diagpb"
	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/paravisor/coredump"
	"keel/vtl"
	"keel/vtl/x86emu"
)

// pieceBytes is how much of a dump is sent at once, in bytes; with what is around it a
// message may have.
const pieceBytes = 192 << 10

// standing is how long a VP may take to stand.
const standing = 10 * time.Second

// Dump sends a core file of the guest. Requests to disks that are under way may still
// write to its memory.
func (c *guestControl) Dump(ctx context.Context, send func(*diagpb.FilePiece) error) error {
	if err := c.take(userDump); err != nil {
		return err
	}
	defer c.give()
	if was := c.guest().Paused(); !was {
		defer c.guest().Resume()
	}
	layout, ranges, err := c.layout(ctx)
	if err != nil {
		return err
	}
	d := dump{machine: c.keel.machine, send: send}
	if err := d.pages(layout.Head); err != nil {
		return err
	}
	for _, r := range ranges {
		if err := d.ram(r); err != nil {
			return err
		}
	}
	return d.flush()
}

// layout pauses the guest and lays the file out.
func (c *guestControl) layout(ctx context.Context) (*coredump.Layout, []coredump.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, standing)
	defer cancel()
	if err := c.guest().Pause(ctx); err != nil {
		return nil, nil, err
	}
	vps := make([]coredump.VP, c.VPs())
	if err := c.guest().OnVPs(ctx, func(i int, vp hcl.VP) (err error) {
		vps[i], err = look(vp)
		return err
	}); err != nil {
		return nil, nil, err
	}
	mapped, err := mappings(ctx, c.guest(), kernelVP(vps))
	if err != nil {
		return nil, nil, err
	}
	var ranges []coredump.Range
	for _, r := range c.keel.machine.memory.Regions() {
		ranges = append(ranges, coredump.Range{GPA: r.GPA, Size: r.Size()})
	}
	return coredump.New(vps, ranges, mapped), ranges, nil
}

// look reads the registers of a VP.
func look(vp hcl.VP) (v coredump.VP, err error) {
	if v.Registers, err = vp.Registers(); err != nil {
		return v, err
	}
	if v.Special, err = vp.SpecialRegisters(); err != nil {
		return v, err
	}
	if d, ok := vp.(hcl.Debugger); ok {
		v.KernelGSBase, err = d.MSR(x86.IA32_KERNEL_GS_BASE)
	}
	return v, err
}

// kernelVP is a VP that runs the kernel: a kernel may hide itself from programs. It is the
// first when none does.
func kernelVP(vps []coredump.VP) int {
	for i := range vps {
		if vps[i].Special.CS.Selector&3 == 0 && vps[i].Special.CR0>>31 != 0 {
			return i
		}
	}
	return 0
}

// Where 64-bit kernels are: the code in the last 2 GiB, which is looked at first, the rest
// of the upper half before it.
const (
	upperHalf = 1 << 63
	lastGiBs  = ^uint64(0) - 2<<30 + 1
)

// mappings lists what is mapped of the addresses of the kernel.
func mappings(ctx context.Context, g *vtl.Guest, vp int) (all []x86emu.Mapping, err error) {
	add := func(m x86emu.Mapping) bool {
		all = append(all, m)
		return len(all) < coredump.MaxMappings
	}
	if err := g.Mappings(ctx, vp, lastGiBs, ^uint64(0), add); err != nil {
		return nil, err
	}
	if len(all) == coredump.MaxMappings {
		return all, nil
	}
	return all, g.Mappings(ctx, vp, upperHalf, lastGiBs-1, add)
}

// dump sends a file.
type dump struct {
	machine *machine
	send    func(*diagpb.FilePiece) error

	data  []byte // that were not sent yet
	zeros int    // bytes that follow it
}

// ram sends a range of the guest's memory.
func (d *dump) ram(r coredump.Range) error {
	for at := uint64(0); at < r.Size; at += x86.LargePageSize {
		memory, err := d.machine.memory.Slice(r.GPA+x86.GPA(at), int(min(r.Size-at, x86.LargePageSize)))
		if err != nil {
			return err
		}
		if err := d.pages(memory); err != nil {
			return err
		}
	}
	return nil
}

var zeroPage [x86.PageSize]byte

// pages sends whole pages, the last of them when more come.
func (d *dump) pages(memory []byte) error {
	for len(memory) > 0 {
		n, zero := alike(memory)
		if zero {
			d.zeros += n
		} else {
			if err := d.flush(); err != nil {
				return err
			}
			d.data = memory[:n]
		}
		memory = memory[n:]
	}
	return nil
}

// flush sends what waits.
func (d *dump) flush() error {
	if len(d.data) == 0 && d.zeros == 0 {
		return nil
	}
	p := &diagpb.FilePiece{Data: d.data, Zeros: uint64(d.zeros)}
	d.data, d.zeros = nil, 0
	return d.send(p)
}

// alike returns how many bytes of whole pages are all zero, or go in one piece because
// none of the pages is.
func alike(memory []byte) (n int, zero bool) {
	for ; n < len(memory); n += x86.PageSize {
		z := bytes.Equal(memory[n:n+x86.PageSize], zeroPage[:])
		switch {
		case n == 0:
			zero = z
		case z != zero, !zero && n == pieceBytes:
			return n, zero
		}
	}
	return n, zero
}
