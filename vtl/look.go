package vtl

import (
	"context"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/x86emu"
)

// readRAM is the x86emu.Reader of the guest's memory.
func (g *Guest) readRAM(gpa x86.GPA, p []byte) bool { return g.config.RAM.ReadAt(gpa, p) == nil }

// translation returns a VP's state as far as it says how addresses are translated.
// Preconditions: the VP is held.
func (g *Guest) translation(ctx context.Context, i int) (*x86emu.State, error) {
	state := &x86emu.State{}
	err := g.OnVP(ctx, i, func(vp hcl.VP) error {
		s, err := vp.SpecialRegisters()
		state.Load(&hcl.Registers{}, &s)
		return err
	})
	return state, err
}

// Mappings calls yield with what a VP's paging maps, as x86emu.Mappings does. Errors: those of
// OnVP.
func (g *Guest) Mappings(ctx context.Context, i int, first, last uint64, yield func(x86emu.Mapping) bool) error {
	s, err := g.translation(ctx, i)
	if err != nil {
		return err
	}
	x86emu.Mappings(s, g.readRAM, first, last, yield)
	return nil
}
