package paravisor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

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
	// direct says that the host may write the guest's memory.
	direct bool
	kernel *guestload.Kernel

	kernelFile source
	initrdFile *source // nil without an initrd
}

// plan looks at the heads of the files and places them in guest memory.
func plan(files Files, memory *guestmem.Memory, granule int, m guestload.Map, c *config.Config) (*payload, error) {
	p := &payload{files: files, memory: memory, granule: granule, direct: c.Isolation == config.IsolationNone}
	var err error
	if p.kernelFile, err = p.open(handoff.FileKernel); err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadKernel, Cause: "the guest kernel cannot be read",
			Remedy: "pass one with --kernel", Err: err,
		}
	}
	if p.kernel, err = guestload.PlanKernel(p.kernelFile.head, uint64(p.kernelFile.Size), m); err != nil {
		return nil, err
	}
	p.kernelFile.segments = slices.SortedFunc(slices.Values(p.kernel.Segments), func(a, b guestload.Segment) int {
		return cmp.Compare(a.Offset, b.Offset)
	})
	if !c.HasInitrd {
		return p, nil
	}
	initrd, err := p.open(handoff.FileInitrd)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadInitrd, Cause: "the guest initrd cannot be read",
			Remedy: "pass a readable file with --initrd", Err: err,
		}
	}
	s, err := p.kernel.PlaceInitrd(initrd.head, uint64(initrd.Size))
	if err != nil {
		return nil, err
	}
	initrd.segments = []guestload.Segment{s}
	p.initrdFile = &initrd
	return p, nil
}

// open finds a file and reads its start.
func (p *payload) open(name string) (source, error) {
	f, err := p.files.Find(name)
	if err != nil {
		return source{}, err
	}
	head := make([]byte, min(f.Size, guestload.HeadSize))
	return source{File: f, head: head}, p.files.Read(f, 0, head)
}

// errLoad is the stage of moving the payload into guest memory.
var errLoad = errors.New("loading the guest")

// load moves the files into guest memory and finishes the boot parameters.
func (p *payload) load(b guestload.Boot) (guestload.Entry, error) {
	for _, f := range []*source{&p.kernelFile, p.initrdFile} {
		if err := p.transfer(f); err != nil {
			return guestload.Entry{}, fmt.Errorf("%w: %w", errLoad, err)
		}
	}
	return p.kernel.Finish(p.memory, b)
}

// transfer moves a file, if there is one, into guest memory.
func (p *payload) transfer(f *source) error {
	if f == nil {
		return nil
	}
	for _, s := range f.segments {
		target, err := p.memory.Slice(s.GPA, int(s.Size))
		if err != nil {
			return err
		}
		if p.direct {
			err = p.files.ReadDMA(f.File, s.Offset, target, p.granule)
		} else {
			err = p.files.Read(f.File, s.Offset, target)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}
