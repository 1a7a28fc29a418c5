package paravisor

import (
	"errors"
	"fmt"

	"keel/boot/handoff"
	"keel/paravisor/config"
	"keel/paravisor/fwcfg"
	"keel/paravisor/guestload"
	"keel/vtl/guestmem"
)

// Files is where the host's files come from: the fw_cfg device.
type Files interface {
	Find(name string) (fwcfg.File, error)
	Read(f fwcfg.File, offset uint64, p []byte) error
	ReadDMA(f fwcfg.File, offset uint64, mapping []byte, granule int) error
}

var _ Files = (*fwcfg.Device)(nil)

// readConfig reads and checks the host's configuration.
func readConfig(files Files, policy config.Policy) (*config.Config, error) {
	f, err := files.Find(handoff.FileConfig)
	if err != nil {
		return nil, badConfig("the host passed no configuration", "start the VM with keel run", err)
	}
	if f.Size > config.MaxSize {
		return nil, badConfig(fmt.Sprintf("the configuration has %d bytes, at most %d are read", f.Size, config.MaxSize),
			"shorten the command line", nil)
	}
	text := make([]byte, f.Size)
	if err := files.Read(f, 0, text); err != nil {
		return nil, badConfig("the configuration cannot be read", "start the VM with keel run", err)
	}
	return config.Parse(text, policy)
}

func badConfig(cause, remedy string, err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadConfig, Cause: cause, Remedy: remedy, Err: err}
}

// payload is the guest's kernel and initrd, planned once and loaded at every
// start of the guest.
type payload struct {
	files   Files
	memory  *guestmem.Memory
	granule int
	kernel  *guestload.Kernel
	// transfers are the parts of both files and where they go.
	transfers []transfer
}

type transfer struct {
	file    fwcfg.File
	segment guestload.Segment
}

// plan looks at the heads of the files and places them in guest memory.
func plan(files Files, memory *guestmem.Memory, granule int, m guestload.Map, c *config.Config) (*payload, error) {
	p := &payload{files: files, memory: memory, granule: granule}
	head, kernel, err := p.head(handoff.FileKernel)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadKernel, Cause: "the guest kernel cannot be read",
			Remedy: "pass one with --kernel", Err: err,
		}
	}
	if p.kernel, err = guestload.PlanKernel(head, uint64(kernel.Size), m); err != nil {
		return nil, err
	}
	for _, s := range p.kernel.Segments {
		p.transfers = append(p.transfers, transfer{kernel, s})
	}
	if !c.HasInitrd {
		return p, nil
	}
	head, initrd, err := p.head(handoff.FileInitrd)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadInitrd, Cause: "the guest initrd cannot be read",
			Remedy: "pass a readable file with --initrd", Err: err,
		}
	}
	s, err := p.kernel.PlaceInitrd(head, uint64(initrd.Size))
	if err != nil {
		return nil, err
	}
	p.transfers = append(p.transfers, transfer{initrd, s})
	return p, nil
}

// head reads the start of a file.
func (p *payload) head(name string) ([]byte, fwcfg.File, error) {
	f, err := p.files.Find(name)
	if err != nil {
		return nil, f, err
	}
	head := make([]byte, min(f.Size, guestload.HeadSize))
	return head, f, p.files.Read(f, 0, head)
}

// errLoad is the stage of moving the payload into guest memory.
var errLoad = errors.New("loading the guest")

// load moves the files into guest memory and finishes the boot parameters.
func (p *payload) load(b guestload.Boot) (guestload.Entry, error) {
	for _, t := range p.transfers {
		target, err := p.memory.Slice(t.segment.GPA, int(t.segment.Size))
		if err != nil {
			return guestload.Entry{}, fmt.Errorf("%w: %w", errLoad, err)
		}
		if err := p.files.ReadDMA(t.file, t.segment.Offset, target, p.granule); err != nil {
			return guestload.Entry{}, fmt.Errorf("%w: %s: %w", errLoad, t.file.Name, err)
		}
	}
	return p.kernel.Finish(p.memory, b)
}
