package pcihost

import (
	"errors"
	"fmt"
	"slices"

	"keel/hcl/abi/x86"
	"keel/vtl/bus"
)

// ErrAssign is the stage of giving addresses to base address registers.
var ErrAssign = errors.New("assign PCI addresses")

var errNoRoom = errors.New("no room in the windows")

// Decoder is an optional capability of a Function that has BARs: it tells which
// device answers an access of size bytes, and at which offset of its range, as the
// BARs and the command register are at the moment. It takes no lock and allocates
// nothing. Methods may be called from several VPs at once.
type Decoder interface {
	DecodeMMIO(gpa x86.GPA, size int) (d bus.MMIODevice, offset uint64, ok bool)
	DecodePIO(port uint16, size int) (d bus.PIODevice, offset uint16, ok bool)
}

// Window is a range of addresses that the bridge forwards to functions: it
// implements bus.MMIODevice for the owner to map. What no BAR claims reads as all
// ones. Where BARs overlap, the function with the lowest address answers.
type Window struct {
	host *Host
	base x86.GPA
}

// Window returns the window that the owner maps at base.
func (h *Host) Window(base x86.GPA) *Window { return &Window{host: h, base: base} }

// ReadMMIO reads from the BAR that claims the address.
func (w *Window) ReadMMIO(offset uint64, size int) uint64 {
	if d, at, ok := w.host.route(w.base+x86.GPA(offset), size); ok {
		return d.ReadMMIO(at, size)
	}
	return ^uint64(0)
}

// WriteMMIO writes to the BAR that claims the address.
func (w *Window) WriteMMIO(offset uint64, size int, value uint64) {
	if d, at, ok := w.host.route(w.base+x86.GPA(offset), size); ok {
		d.WriteMMIO(at, size, value)
	}
}

// PortWindow is a Window of ports: it implements bus.PIODevice.
type PortWindow struct {
	host *Host
	base uint16
}

// PortWindow returns the window that the owner maps at base.
func (h *Host) PortWindow(base uint16) *PortWindow { return &PortWindow{host: h, base: base} }

// ReadPIO reads from the BAR that claims the port.
func (w *PortWindow) ReadPIO(offset uint16, size int) uint32 {
	if d, at, ok := w.host.routePort(w.base+offset, size); ok {
		return d.ReadPIO(at, size)
	}
	return ^uint32(0)
}

// WritePIO writes to the BAR that claims the port.
func (w *PortWindow) WritePIO(offset uint16, size int, value uint32) {
	if d, at, ok := w.host.routePort(w.base+offset, size); ok {
		d.WritePIO(at, size, value)
	}
}

func (h *Host) routePort(port uint16, size int) (bus.PIODevice, uint16, bool) {
	for i := range h.decoders {
		if d, at, ok := h.decoders[i].DecodePIO(port, size); ok {
			return d, at, true
		}
	}
	h.unclaimed.Add(1)
	return nil, 0, false
}

// Unclaimed counts the accesses to windows that no BAR claimed.
func (h *Host) Unclaimed() uint64 { return h.unclaimed.Load() }

func (h *Host) route(gpa x86.GPA, size int) (bus.MMIODevice, uint64, bool) {
	for i := range h.decoders {
		if d, at, ok := h.decoders[i].DecodeMMIO(gpa, size); ok {
			return d, at, true
		}
	}
	h.unclaimed.Add(1)
	return nil, 0, false
}

// decoder is a function that has the capability, and its place.
type decoder struct {
	Decoder
	at Address
}

// addDecoder keeps the functions with BARs in the order of their addresses.
func (h *Host) addDecoder(at Address, f Function) {
	d, ok := f.(Decoder)
	if !ok {
		return
	}
	i, _ := slices.BinarySearchFunc(h.decoders, at, func(d decoder, at Address) int { return int(d.at) - int(at) })
	h.decoders = slices.Insert(h.decoders, i, decoder{d, at})
}

// Range is a run of guest physical addresses, or of ports.
type Range struct {
	Base x86.GPA
	Size uint64
}

// request is a BAR that wants an address.
type request struct {
	at   Address
	reg  uint16
	size uint64
	wide bool
	port bool
}

// Assign does what firmware does before it starts an operating system: it gives
// every BAR an address, the largest first, and enables memory and I/O space. Low is
// used first; BARs of 64 bits for which it has no room go to high. The outcome
// depends on nothing but the functions. A function without room keeps its spaces
// disabled, and the error names it; the others are served all the same.
// Preconditions: the functions are reset and no VP runs.
func (h *Host) Assign(low, high, ports Range) error {
	var wanted []request
	var places []Address
	for at := range h.functions {
		places = append(places, at)
	}
	slices.Sort(places)
	for _, at := range places {
		wanted = append(wanted, size(at, h.functions[at])...)
	}
	slices.SortStableFunc(wanted, func(a, b request) int {
		switch {
		case a.size > b.size:
			return -1
		case a.size < b.size:
			return 1
		}
		return 0
	})
	var refused []error
	short := map[Address]bool{}
	for _, r := range wanted {
		var base x86.GPA
		var ok bool
		if r.port {
			base, ok = ports.take(r.size, limitPorts)
		} else {
			size := max(r.size, x86.PageSize) // so that no two BARs share a page
			if base, ok = low.take(size, limitNarrow); !ok && r.wide {
				base, ok = high.take(size, 0)
			}
		}
		if !ok {
			refused = append(refused, fmt.Errorf("%w: %s: %#x bytes: %w", ErrAssign, r.at, r.size, errNoRoom))
			short[r.at] = true
			continue
		}
		f := h.functions[r.at]
		f.WriteConfig(r.reg, 4, uint32(base))
		if r.wide {
			f.WriteConfig(r.reg+4, 4, uint32(base>>32))
		}
	}
	for _, r := range wanted {
		if f := h.functions[r.at]; !short[r.at] {
			enable := uint32(commandMemory)
			if r.port {
				enable = commandPorts
			}
			f.WriteConfig(cfgCommand, 2, f.ReadConfig(cfgCommand, 2)|enable)
		}
	}
	return errors.Join(refused...)
}

// take cuts an aligned run off the front of the range. The run ends at or below
// limit, unless that is 0.
func (r *Range) take(size uint64, limit x86.GPA) (x86.GPA, bool) {
	base := (r.Base + x86.GPA(size) - 1) &^ (x86.GPA(size) - 1)
	skipped := uint64(base - r.Base)
	if skipped > r.Size || size > r.Size-skipped || limit != 0 && base+x86.GPA(size) > limit {
		return 0, false
	}
	r.Base, r.Size = base+x86.GPA(size), r.Size-skipped-size
	return base, true
}

// size asks a function with an ordinary header for the sizes of its BARs (PCI 3.0
// §6.2.5.1), and leaves them at zero with memory and I/O space disabled.
func size(at Address, f Function) []request {
	if f.ReadConfig(cfgHeaderType, 1)&headerTypeMask != 0 {
		return nil
	}
	f.WriteConfig(cfgCommand, 2, f.ReadConfig(cfgCommand, 2)&^(commandMemory|commandPorts))
	var all []request
	for reg := uint16(cfgBAR); reg < cfgBAR+barCount*4; reg += 4 {
		f.WriteConfig(reg, 4, 0xffffffff)
		low := f.ReadConfig(reg, 4)
		f.WriteConfig(reg, 4, 0)
		if low == 0 {
			continue
		}
		r := request{at: at, reg: reg, port: low&barIO != 0}
		r.wide = !r.port && low&barTypeMask == barWide
		bits := uint64(low&^barFlags) | 0xffffffff<<32
		if r.port {
			// The upper half of the register may be missing.
			bits = uint64(low&^barPortFlags) | 0xffffffff_ffff0000
		}
		if r.wide && reg+4 < cfgBAR+barCount*4 {
			f.WriteConfig(reg+4, 4, 0xffffffff)
			bits = uint64(low&^barFlags) | uint64(f.ReadConfig(reg+4, 4))<<32
			f.WriteConfig(reg+4, 4, 0)
			reg += 4
		}
		r.size = -bits
		if r.size != 0 && r.size&(r.size-1) == 0 {
			all = append(all, r)
		}
	}
	return all
}
