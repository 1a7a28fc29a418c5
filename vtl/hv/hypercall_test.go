package hv

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// Parts of the hypercall input value.
const (
	fast     = hv.HYPERCALL_FAST
	varQword = 1 << hv.HYPERCALL_VARIABLE_SHIFT
	repOne   = 1 << hv.HYPERCALL_REP_SHIFT
	startOne = 1 << hv.HYPERCALL_START_SHIFT
)

// postInput is the input of HvCallPostMessage.
func postInput(connection, kind, size uint32, text string) []uint64 {
	p := make([]byte, hv.POST_SIZE)
	copy(p[hv.POST_PAYLOAD:], text)
	words := []uint64{uint64(connection), uint64(kind) | uint64(size)<<32}
	for i := hv.POST_PAYLOAD; i < len(p); i += 8 {
		var w uint64
		for j := range 8 {
			w |= uint64(p[i+j]) << (8 * j)
		}
		words = append(words, w)
	}
	return words
}

// TestInputValue: the checks that are the same for all hypercalls.
func TestInputValue(t *testing.T) {
	const signal, flushList, ipiEx = hv.HvCallSignalEvent, hv.HvCallFlushVirtualAddressList, hv.HvCallSendSyntheticClusterIpiEx
	for _, tt := range []struct {
		name    string
		control uint64
		gpa     uint64
		want    uint64
	}{
		{"good", signal, inputPage, 0},
		{"last bytes of a page", signal, inputPage + 0xFF8, 0},
		{"unknown code", 0x1234, inputPage, 2},
		{"code 0", 0, inputPage, 2},
		{"extended call", hv.HvExtCallQueryCapabilities, inputPage, 2},
		{"reserved bit 27", signal | 1<<27, inputPage, 3},
		{"reserved bit 44", signal | 1<<44, inputPage, 3},
		{"reserved bit 63", signal | 1<<63, inputPage, 3},
		{"nested", signal | 1<<31, inputPage, 3},
		{"variable header of a fixed call", signal | varQword, inputPage, 3},
		{"rep count of a simple call", signal | repOne, inputPage, 3},
		{"start index of a simple call", signal | startOne, inputPage, 3},
		{"no reps", flushList, inputPage, 3},
		{"start at the end", flushList | 2*repOne | 2*startOne, inputPage, 3},
		{"start beyond the end", flushList | repOne | 0xFFF*startOne, inputPage, 3},
		{"fast call of 24 bytes", ipiEx | fast, 0, 3},
		{"fast list", flushList | fast | repOne, 0, 3},
		{"fast post", hv.HvCallPostMessage | fast, 0, 3},
		{"odd address", signal, inputPage + 4, 4},
		{"input across pages", hv.HvCallFlushVirtualAddressSpace, inputPage + 0xFF0, 4},
		{"list across pages", flushList | 510*repOne, inputPage, 4},
		{"longest list", flushList | 509*repOne, inputPage, 509 << 32},
		{"all the reps there are", flushList | 0xFFF*repOne, inputPage, 4},
		{"variable header across pages", ipiEx | 0x3FF*varQword, inputPage, 4},
		{"not RAM", signal, 1 << 40, 4},
		{"end of RAM", signal, ram, 4},
		{"end of the address space", signal, ^uint64(7), 4},
	} {
		g := newRig(t, 1)
		g.enableCalls()
		g.rec.signal = func(int, uint32, uint16) Status { return 0 }
		g.SetPorts(g.rec)
		check(t, tt.name, g.call64(0, tt.control, tt.gpa, 0), tt.want)
		check(t, tt.name+": counted as refused", g.Stats().CallsRefused, min(tt.want&0xFFFF, 1))
	}
}

func TestPostMessageCall(t *testing.T) {
	text := "a message of the guest"
	for _, tt := range []struct {
		name             string
		connection, kind uint32
		size             uint32
		status           Status
		want             Status
		arrives          bool
	}{
		{"good", 1, 1, 22, 0, 0, true},
		{"empty", 1, 1, 0, 0, 0, true},
		{"longest", 1, 0x7FFFFFFF, 240, 0, 0, true},
		{"status of the port", 1, 1, 22, hv.HV_STATUS_INSUFFICIENT_BUFFERS, hv.HV_STATUS_INSUFFICIENT_BUFFERS, true},
		{"too long", 1, 1, 241, 0, hv.HV_STATUS_INVALID_PARAMETER, false},
		{"far too long", 1, 1, 1 << 31, 0, hv.HV_STATUS_INVALID_PARAMETER, false},
		{"type 0", 1, 0, 22, 0, hv.HV_STATUS_INVALID_PARAMETER, false},
		{"type of the hypervisor", 1, 0x80000010, 22, 0, hv.HV_STATUS_INVALID_PARAMETER, false},
		{"reserved bits of the connection", 1 << 24, 1, 22, 0, hv.HV_STATUS_INVALID_CONNECTION_ID, false},
	} {
		g := newRig(t, 3)
		g.enableCalls()
		var got []string
		g.rec.post = func(vp int, connection, kind uint32, payload []byte) Status {
			got = append(got, fmt.Sprint(vp, connection, kind, len(payload)))
			if n := min(len(text), len(payload)); string(payload[:n]) != text[:n] {
				t.Errorf("%s: payload %q", tt.name, payload)
			}
			return tt.status
		}
		in := g.input(2, postInput(tt.connection, tt.kind, tt.size, text)...)
		check(t, tt.name+": without ports", g.call64(2, hv.HvCallPostMessage, in, 0) != 0, true)
		g.SetPorts(g.rec)
		check(t, tt.name+": status", Status(g.call64(2, hv.HvCallPostMessage, in, 0)), tt.want)
		want := []string(nil)
		if tt.arrives {
			want = []string{fmt.Sprint(2, tt.connection, tt.kind, tt.size)}
		}
		check(t, tt.name+": messages", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// TestPayloadIsACopy: neither the guest nor the next hypercall changes a message
// that has been taken.
func TestPayloadIsACopy(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	var kept []byte
	g.rec.post = func(_ int, _, _ uint32, p []byte) Status {
		if kept == nil {
			kept = p
		}
		return 0
	}
	g.SetPorts(g.rec)
	g.call64(0, hv.HvCallPostMessage, g.input(0, postInput(1, 1, 5, "first")...), 0)
	g.call64(0, hv.HvCallPostMessage, g.input(0, postInput(1, 1, 5, "other")...), 0)
	check(t, "first payload", string(kept), "first")
}

func TestSignalEventCall(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	var got string
	g.rec.signal = func(vp int, connection uint32, flag uint16) Status {
		got = fmt.Sprint(vp, connection, flag)
		return 0
	}
	const word = 0x010002 | 0x345<<32
	check(t, "without ports", g.call64(0, hv.HvCallSignalEvent|fast, word, 0), hv.HV_STATUS_INVALID_CONNECTION_ID)
	g.SetPorts(g.rec)
	for name, in := range map[string]func() uint64{
		"fast": func() uint64 { return g.call64(0, hv.HvCallSignalEvent|fast, word, ^uint64(0)) },
		"slow": func() uint64 { return g.call64(0, hv.HvCallSignalEvent, g.input(0, word), 0) },
	} {
		got = ""
		check(t, name+": status", in(), 0)
		check(t, name+": event", got, fmt.Sprint(0, 0x010002, 0x345))
	}
	got = ""
	check(t, "reserved half", g.call64(0, hv.HvCallSignalEvent|fast, word|1<<48, 0), hv.HV_STATUS_INVALID_PARAMETER)
	check(t, "reserved bits", g.call64(0, hv.HvCallSignalEvent|fast, word|1<<24, 0), hv.HV_STATUS_INVALID_CONNECTION_ID)
	check(t, "events", got, "")
}

func TestIPICalls(t *testing.T) {
	const vector = 0xFB
	for _, tt := range []struct {
		name    string
		control uint64
		words   []uint64
		status  Status
		vps     []int
	}{
		{"fast", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{vector, 0b101}, 0, []int{0, 2}},
		{"slow", hv.HvCallSendSyntheticClusterIpi, []uint64{vector, 0b110}, 0, []int{1, 2}},
		{"VPs that do not exist", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{vector, ^uint64(7)}, 0, nil},
		{"VTL 0", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{vector | 0x10<<32, 1}, 0, []int{0}},
		{"VTL 1", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{vector | 0x11<<32, 1}, 5, nil},
		{"vector 15", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{15, 1}, 5, nil},
		{"vector 256", hv.HvCallSendSyntheticClusterIpi | fast, []uint64{256, 1}, 5, nil},
		{"all", hv.HvCallSendSyntheticClusterIpiEx, []uint64{vector, 1, 0}, 0, []int{0, 1, 2}},
		{"sparse", hv.HvCallSendSyntheticClusterIpiEx | varQword, []uint64{vector, 0, 1, 0b11}, 0, []int{0, 1}},
		{"two banks", hv.HvCallSendSyntheticClusterIpiEx | 2*varQword, []uint64{vector, 0, 5, 0b100, ^uint64(0)}, 0, []int{2}},
		{"only a high bank", hv.HvCallSendSyntheticClusterIpiEx | varQword, []uint64{vector, 0, 2, ^uint64(0)}, 0, nil},
		{"fewer banks than bits", hv.HvCallSendSyntheticClusterIpiEx | varQword, []uint64{vector, 0, 3, 1}, 3, nil},
		{"more banks than bits", hv.HvCallSendSyntheticClusterIpiEx | 2*varQword, []uint64{vector, 0, 1, 1, 1}, 3, nil},
		{"unknown format", hv.HvCallSendSyntheticClusterIpiEx | varQword, []uint64{vector, 2, 1, 1}, 5, nil},
	} {
		g := newRig(t, 3)
		g.enableCalls()
		var got uint64
		if tt.control&fast != 0 {
			got = g.call64(1, tt.control, tt.words[0], tt.words[1])
		} else {
			got = g.call64(1, tt.control, g.input(1, tt.words...), 0)
		}
		check(t, tt.name+": status", Status(got), tt.status)
		var vps []int
		for vp := range 3 {
			for _, v := range g.rec.take(vp) {
				check(t, tt.name+": vector", v, vector)
				vps = append(vps, vp)
			}
		}
		check(t, tt.name+": VPs", fmt.Sprint(vps), fmt.Sprint(tt.vps))
		check(t, tt.name+": counted", g.Stats().IPIs, uint64(len(tt.vps)))
	}
}

func TestFlushCalls(t *testing.T) {
	const cr3 = 0x1234000
	for _, tt := range []struct {
		name    string
		control uint64
		words   []uint64
		result  uint64
		want    []VPSet
	}{
		{"space", hv.HvCallFlushVirtualAddressSpace, []uint64{cr3, 0, 0b110}, 0, []VPSet{0b110}},
		{"all VPs", hv.HvCallFlushVirtualAddressSpace, []uint64{cr3, 1, 0}, 0, []VPSet{0b111}},
		{"all spaces, not global", hv.HvCallFlushVirtualAddressSpace, []uint64{0, 6, 1}, 0, []VPSet{1}},
		{"no VP", hv.HvCallFlushVirtualAddressSpace, []uint64{0, 0, 0b1000}, 0, nil},
		{"unknown flag", hv.HvCallFlushVirtualAddressSpace, []uint64{0, 8, 1}, 5, nil},
		{"list", hv.HvCallFlushVirtualAddressList | 2*repOne, []uint64{cr3, 0, 1, 0x1000, 0x2000}, 2 << 32, []VPSet{1}},
		{"rest of a list", hv.HvCallFlushVirtualAddressList | 2*repOne | startOne, []uint64{cr3, 0, 1, 0x1000, 0x2000}, 2 << 32, []VPSet{1}},
		{"list, not global", hv.HvCallFlushVirtualAddressList | 2*repOne | startOne, []uint64{cr3, 4, 1, 0, 0}, 1<<32 | 5, nil},
		{"space of a set", hv.HvCallFlushVirtualAddressSpaceEx | varQword, []uint64{cr3, 0, 0, 1, 0b11}, 0, []VPSet{0b11}},
		{"space of all", hv.HvCallFlushVirtualAddressSpaceEx, []uint64{cr3, 0, 1, 0}, 0, []VPSet{0b111}},
		{"list of a set", hv.HvCallFlushVirtualAddressListEx | varQword | repOne, []uint64{cr3, 0, 0, 1, 0b10, 0x5FFF}, 1 << 32, []VPSet{0b10}},
		{"list of a wrong set", hv.HvCallFlushVirtualAddressListEx | varQword | repOne, []uint64{cr3, 0, 0, 3, 0b10, 0x5FFF}, 3, nil},
	} {
		g := newRig(t, 3)
		g.enableCalls()
		check(t, tt.name+": result", g.call64(0, tt.control, g.input(0, tt.words...), 0), tt.result)
		check(t, tt.name+": flushes", fmt.Sprint(g.rec.flushes), fmt.Sprint(tt.want))
	}
	g := newRig(t, 1, func(c *Config) { c.TLB = nil })
	g.enableCalls()
	check(t, "without TLBs", g.call64(0, hv.HvCallFlushVirtualAddressSpace, g.input(0, 0, 1, 0), 0), 2)
}

func TestSpinWait(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	check(t, "fast", g.call64(0, hv.HvCallNotifyLongSpinWait|fast, 0xFFF, 0), 0)
}

// TestRegisterConventions: which registers 32-bit and 64-bit code passes and gets
// back (TLFS "Hypercall Register Conventions").
func TestRegisterConventions(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	list := g.input(0, 0, 0, 1, 0x1000)
	const junk = 0xABCD << 32
	for _, tt := range []struct {
		name     string
		port     uint16
		in, want hcl.Registers
	}{
		{
			"64 bits: a rep call moves the start index", TrapPort64,
			hcl.Registers{RCX: hv.HvCallFlushVirtualAddressList | repOne, RDX: list, RAX: 7, RBX: 8},
			hcl.Registers{RCX: hv.HvCallFlushVirtualAddressList | repOne | startOne, RDX: list, RAX: 1 << 32, RBX: 8},
		},
		{
			"64 bits: an unknown call", TrapPort64,
			hcl.Registers{RCX: 0x999, RIP: 5, RFLAGS: 2},
			hcl.Registers{RCX: 0x999, RAX: 2, RIP: 5, RFLAGS: 2},
		},
		{
			"32 bits: slow", TrapPort32,
			hcl.Registers{RDX: 1 | junk, RAX: hv.HvCallFlushVirtualAddressList | junk, RBX: junk, RCX: list | junk, RDI: 3, RSI: 4},
			hcl.Registers{RDX: 1, RAX: 0, RBX: junk, RCX: list | junk, RDI: 3, RSI: 4},
		},
		{
			"32 bits: fast", TrapPort32,
			hcl.Registers{RAX: hv.HvCallSendSyntheticClusterIpi | fast, RBX: 0, RCX: 0x41, RDI: 0, RSI: 1},
			hcl.Registers{RAX: 0, RBX: 0, RCX: 0x41, RDI: 0, RSI: 1},
		},
	} {
		vp := &trapped{tt.in}
		if ok, err := g.Hypercall(0, tt.port, vp); !ok || err != nil {
			t.Errorf("%s: %v, %v", tt.name, ok, err)
		}
		check(t, tt.name, vp.r, tt.want)
	}
	check(t, "the 32-bit IPI", len(g.rec.take(0)), 1)
}

func TestTrapsThatAreNone(t *testing.T) {
	g := newRig(t, 1)
	for _, tt := range []struct {
		name string
		vp   int
		port uint16
	}{{"page disabled", 0, TrapPort64}, {"another port", 0, 0x80}, {"no such VP", 1, TrapPort64}} {
		vp := &trapped{hcl.Registers{RCX: hv.HvCallNotifyLongSpinWait | fast, RAX: 9}}
		if ok, err := g.Hypercall(tt.vp, tt.port, vp); ok || err != nil || vp.r.RAX != 9 {
			t.Errorf("%s: %v, %v, RAX %#x", tt.name, ok, err, vp.r.RAX)
		}
		g.enableCalls()
	}
}

// brokenVP is a substrate that has failed.
type brokenVP struct{ get, set error }

func (b brokenVP) Registers() (hcl.Registers, error) { return hcl.Registers{}, b.get }
func (b brokenVP) SetRegisters(*hcl.Registers) error { return b.set }

func TestBrokenSubstrate(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	broken := errors.New("broken")
	for _, vp := range []brokenVP{{get: broken}, {set: broken}} {
		if _, err := g.Hypercall(0, TrapPort64, vp); !errors.Is(err, broken) {
			t.Errorf("%+v: %v", vp, err)
		}
	}
}

// TestInputIsReadOnce: the guest's page is not written.
func TestInputIsReadOnce(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	in := g.input(0, postInput(1, 1, 5, "first")...)
	before := g.bytes(int(in), x86.PageSize)
	g.rec.post = func(int, uint32, uint32, []byte) Status { return 0 }
	g.SetPorts(g.rec)
	g.call64(0, hv.HvCallPostMessage, in, in)
	check(t, "page unchanged", bytes.Equal(before, g.bytes(int(in), x86.PageSize)), true)
}
