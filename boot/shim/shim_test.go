package shim_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/layout"
	"keel/boot/shim"
)

// enum reason of src/shim.h.
const (
	ok = iota
	badImage
	mapEmpty
	mapBounds
	mapOverlap
	mapTooLong
	imageNotRAM
	vpsNone
	vpsTooMany
	cmdlineTooLong
)

const (
	memory = iota // IGVM memory map types
	reserved
	persistent
	vtl2Protectable
)

// good returns a request that the shim accepts: a VM of 64 MiB.
func good() request {
	info := layout.Info{
		Magic: 0x47414d494c45454b, Version: 1, Bytes: uint32(binary.Size(layout.Info{})),
		Control: handoff.Span{Start: 0x100000, Size: 0x13000}, Kernel: handoff.Span{Start: 0x1000000, Size: 0xc00000},
		Initrd:     handoff.Span{Start: 0x113000, Size: 0x12345},
		CmdlineOut: 0x10d000, BootParams: 0x10e000, Handoff: 0x10f000, Digest: [32]byte{1, 2, 31: 9},
	}
	copy(info.SetupHeader[0x202-0x1f1:], "HdrS")
	info.SetupHeader[0x201-0x1f1] = 0x268 - 0x202
	return request{info: info, memory: []mapEntry{{Pages: 0x4000}}, vps: 2, cmdline: "console=ttyS0"}
}

func TestRefusals(t *testing.T) {
	h := startHarness(t)
	tests := []struct {
		name string
		edit func(*request)
		want uint32
	}{
		{"good", func(*request) {}, ok},
		{"magic", func(r *request) { r.info.Magic++ }, badImage},
		{"version", func(r *request) { r.info.Version++ }, badImage},
		{"size", func(r *request) { r.info.Bytes-- }, badImage},
		{"setup header too long", func(r *request) { r.info.SetupHeader[0x10] = 0xff }, badImage},
		{"setup header too short", func(r *request) { r.info.SetupHeader[0x10] = 0x10 }, badImage},
		{"no VPs", func(r *request) { r.vps = 0 }, vpsNone},
		{"all VPs", func(r *request) { r.vps = 256 }, ok},
		{"one VP too many", func(r *request) { r.vps = 257 }, vpsTooMany},
		{"VPs negative", func(r *request) { r.vps = 1 << 31 }, vpsTooMany},
		{"no map", func(r *request) { r.memory = nil }, mapEmpty},
		{"first entry empty", func(r *request) { r.memory = []mapEntry{{}, {Pages: 0x4000}} }, mapEmpty},
		{"start beyond", func(r *request) { r.memory = append(r.memory, mapEntry{Page: 1<<40 + 1, Pages: 1}) }, mapBounds},
		{"end beyond", func(r *request) { r.memory = append(r.memory, mapEntry{Page: 1 << 39, Pages: 1<<39 + 1}) }, mapBounds},
		{"end at bound", func(r *request) { r.memory = append(r.memory, mapEntry{Page: 1 << 39, Pages: 1 << 39}) }, ok},
		{"sum wraps", func(r *request) { r.memory = append(r.memory, mapEntry{Page: 1 << 39, Pages: 1<<64 - 1}) }, mapBounds},
		{"overlap", func(r *request) { r.memory = append(r.memory, mapEntry{Page: 0x3fff, Pages: 1, Kind: reserved}) }, mapOverlap},
		{"same twice", func(r *request) { r.memory = append(r.memory, r.memory[0]) }, mapOverlap},
		{"unsorted", func(r *request) { r.memory = []mapEntry{{Page: 0x2000, Pages: 0x2000}, {Pages: 0x2000}} }, ok},
		{"image in a hole", func(r *request) { r.memory = []mapEntry{{Pages: 0x101}, {Page: 0x102, Pages: 0x3000}} }, imageNotRAM},
		{"image reserved", func(r *request) { r.memory[0].Kind = reserved }, imageNotRAM},
		{"image of unknown type", func(r *request) { r.memory[0].Kind = 77 }, imageNotRAM},
		{"image persistent", func(r *request) { r.memory[0].Kind = persistent }, imageNotRAM},
		{"image protectable", func(r *request) { r.memory[0].Kind = vtl2Protectable }, ok},
		{"kernel cut", func(r *request) { r.memory[0].Pages = 0x1bff }, imageNotRAM},
		{"kernel just fits", func(r *request) { r.memory[0].Pages = 0x1c00 }, ok},
		{"initrd outside", func(r *request) { r.info.Initrd.Start = 0x4000000 - 0x12344 }, imageNotRAM},
		{"no initrd", func(r *request) { r.info.Initrd = handoff.Span{Start: 1 << 40} }, ok},
		{"control wraps", func(r *request) { r.info.Control.Size = 1<<64 - 0x1000 }, imageNotRAM},
		{"command line full", func(r *request) { r.cmdline = strings.Repeat("a", 2047) }, ok},
		{"command line without end", func(r *request) { r.cmdline = strings.Repeat("a", 2048) }, cmdlineTooLong},
		{"command line full on an emulated processor", func(r *request) { r.cmdline, r.emulated = strings.Repeat("a", 2047), 1 }, cmdlineTooLong},
		{"host ignored", func(r *request) { r.hostCmdline = strings.Repeat("b", 2048) }, ok},
		{"host too long", func(r *request) {
			r.info.Flags, r.hostCmdline = handoff.FlagDebug, strings.Repeat("b", 2048)
		}, cmdlineTooLong},
		{"ranges fill the table", func(r *request) { r.memory = comb(127) }, ok},
		{"ranges fill the page", func(r *request) { r.memory = comb(170) }, mapTooLong},
	}
	for _, tt := range tests {
		r := good()
		tt.edit(&r)
		if got := h.build(t, r).reason; got != tt.want {
			t.Errorf("%s: reason %d, want %d", tt.name, got, tt.want)
		}
	}
}

// comb returns a map of n entries: the good one, then teeth without neighbours.
// The legacy hole makes one range more of it.
func comb(n int) []mapEntry {
	m := []mapEntry{{Pages: 0x4000}}
	for i := range n - 1 {
		m = append(m, mapEntry{Page: uint64(0x5000 + 2*i), Pages: 1})
	}
	return m
}

func TestMemoryMap(t *testing.T) {
	h := startHarness(t)
	const ram, res = handoff.MemoryRAM, handoff.MemoryReserved
	tests := []struct {
		name string
		in   []mapEntry
		want []handoff.Range
	}{
		{
			"hole is cut out of RAM",
			[]mapEntry{{Pages: 0x4000}},
			[]handoff.Range{rng(0, 0xa0000, ram), rng(0x100000, 0x4000000, ram)},
		},
		{
			"hole stays reserved",
			[]mapEntry{{Pages: 0x9f}, {Page: 0x9f, Pages: 0x61, Kind: reserved}, {Page: 0x100, Pages: 0x3f00}},
			[]handoff.Range{rng(0, 0x9f000, ram), rng(0x9f000, 0x100000, res), rng(0x100000, 0x4000000, ram)},
		},
		{
			"neighbours merge, order does not matter",
			[]mapEntry{{Page: 0x2000, Pages: 0x2000, Kind: vtl2Protectable}, {Page: 0x4000, Pages: 1, Kind: reserved}, {Page: 0x4001, Pages: 2, Kind: 9}, {Page: 0x100, Pages: 0x1f00}},
			[]handoff.Range{rng(0x100000, 0x4000000, ram), rng(0x4000000, 0x4003000, res)},
		},
		{
			"RAM inside the hole vanishes",
			[]mapEntry{{Page: 0xb0, Pages: 0x10}, {Page: 0x100, Pages: 0x3f00}},
			[]handoff.Range{rng(0x100000, 0x4000000, ram)},
		},
		{
			"above 4 GiB",
			[]mapEntry{{Page: 0x100, Pages: 0x3f00}, {Page: 1 << 20, Pages: 1 << 10}},
			[]handoff.Range{rng(0x100000, 0x4000000, ram), rng(1<<32, 1<<32+1<<22, ram)},
		},
	}
	for _, tt := range tests {
		r := good()
		r.memory = tt.in
		a := h.build(t, r)
		got := parseHandoff(t, a.handoff)
		if a.reason != ok || !reflect.DeepEqual(got.Memory, tt.want) {
			t.Errorf("%s: reason %d, %+v", tt.name, a.reason, got.Memory)
		}
		if e820 := e820(a.bootParams); !reflect.DeepEqual(e820, tt.want) {
			t.Errorf("%s: E820 %+v", tt.name, e820)
		}
	}
}

func rng(start, end uint64, kind handoff.MemoryType) handoff.Range {
	return handoff.Range{Span: handoff.Span{Start: start, Size: end - start}, Type: kind}
}

// parseHandoff checks the head of the setup_data node as Linux reads it, and
// parses its data as the paravisor does.
func parseHandoff(tb testing.TB, node []byte) *handoff.Handoff {
	tb.Helper()
	le := binary.LittleEndian
	if next, kind := le.Uint64(node), le.Uint32(node[8:]); next != 0 || kind != handoff.SetupDataType {
		tb.Fatalf("setup_data next %#x, type %#x", next, kind)
	}
	hd, err := handoff.Parse(node[16:][:le.Uint32(node[12:])])
	if err != nil {
		tb.Fatal(err)
	}
	return hd
}

func e820(bp []byte) []handoff.Range {
	var out []handoff.Range
	for i := range int(bp[0x1e8]) {
		e := bp[0x2d0+20*i:]
		start, size := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
		out = append(out, rng(start, start+size, handoff.MemoryType(binary.LittleEndian.Uint32(e[16:]))))
	}
	return out
}

func TestBootParams(t *testing.T) {
	h := startHarness(t)
	r := good()
	r.rsdp = 0xf59e0
	for i := range r.info.SetupHeader {
		if i != 0x10 {
			r.info.SetupHeader[i] = byte(i)
		}
	}
	a := h.build(t, r)
	bp := a.bootParams
	le := binary.LittleEndian
	for off, want := range map[int]uint32{
		0x70: 0xf59e0, 0x214: 0x1000000, 0x218: 0x113000, 0x21c: 0x12345, 0x228: 0x10d000, 0x250: 0x10f000, 0x254: 0,
		0x0c0: 0, 0x0c4: 0, 0x0c8: 0, 0x230: 0x4241403f,
	} {
		if got := le.Uint32(bp[off:]); got != want {
			t.Errorf("boot_params at %#x: %#x, want %#x", off, got, want)
		}
	}
	// The header is copied to its end and no further; the sentinel stays zero.
	if bp[0x1ef] != 0 || bp[0x210] != 0xff || bp[0x267] != 0x76 || bp[0x268] != 0 {
		t.Errorf("edges: %#x %#x %#x %#x", bp[0x1ef], bp[0x210], bp[0x267], bp[0x268])
	}
	got := parseHandoff(t, a.handoff)
	want := &handoff.Handoff{
		VPs: 2, RAMBytes: 0xa0000 + 0x3f00000, Control: r.info.Control, Kernel: r.info.Kernel, Initrd: r.info.Initrd,
		Digest: r.info.Digest, Memory: []handoff.Range{rng(0, 0xa0000, handoff.MemoryRAM), rng(0x100000, 0x4000000, handoff.MemoryRAM)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handoff %+v", got)
	}
	r.info.Initrd = handoff.Span{}
	if bp := h.build(t, r).bootParams; le.Uint64(bp[0x218:]) != 0 {
		t.Errorf("initrd %#x without one", le.Uint64(bp[0x218:]))
	}
}

func TestCommandLine(t *testing.T) {
	h := startHarness(t)
	tests := []struct {
		measured, host string
		flags          handoff.Flags
		emulated       uint32
		platform       handoff.Platform
		want           string
	}{
		{"quiet", "init=/bin/sh", 0, 0, 0, "quiet"},
		{"quiet", "init=/bin/sh", handoff.FlagDebug, 0, 0, "quiet init=/bin/sh"},
		{"quiet", "", handoff.FlagDebug, 0, 0, "quiet"},
		{"", "", 0, 0, 0, ""},
		{strings.Repeat("a", 1000), strings.Repeat("b", 1046), handoff.FlagDebug, 0, 0, strings.Repeat("a", 1000) + " " + strings.Repeat("b", 1046)},
		{"quiet", "", 0, 1, 0, "quiet mitigations=off"},
		{"quiet", "x", handoff.FlagDebug, 1, 0, "quiet mitigations=off x"},
		{"quiet", "", 0, 1, handoff.PlatformSNP, "quiet"},
		{"quiet", "", 0, 1, handoff.PlatformTDX, "quiet"},
	}
	for _, tt := range tests {
		r := good()
		r.cmdline, r.hostCmdline, r.info.Flags = tt.measured, tt.host, tt.flags
		r.emulated, r.info.Platform = tt.emulated, tt.platform
		a := h.build(t, r)
		text, _, found := bytes.Cut(a.cmdline, []byte{0})
		if a.reason != ok || !found || string(text) != tt.want {
			t.Errorf("%.20q + %.20q: reason %d, %.40q", tt.measured, tt.host, a.reason, text)
		}
	}
}

func TestRSDP(t *testing.T) {
	h := startHarness(t)
	table := append([]byte("RSD PTR \x00BOCHS \x00"), 0xcb, 0x22, 0xfe, 0x0f)
	sum := byte(0)
	for _, v := range table {
		sum += v
	}
	table[8] = -sum
	broken := bytes.Clone(table)
	broken[8]++
	unsigned := bytes.Clone(table)
	unsigned[0], unsigned[1] = 'S', 'R' // the sum stays right
	tests := []struct {
		where uint64
		table []byte
		want  uint32 // bit 0: place is fine, bit 1: contents are
	}{
		{0xf59e0, table, 3},
		{0xf59e0, broken, 1},
		{0xf59e0, unsigned, 1},
		{0, table, 2},
		{0xf59e8, table, 2},
		{0x100000000, table, 2},
		{0xfffff000, table, 3},
		{0xfffff010, table, 2},
		{1 << 63, table, 2},
		{0x100000, table, 2},
		{0xffff0, table, 2},
		{0x112ff0, table, 2},
		{0x1bffff0, table, 2},
		{0x1c00000, table, 3},
		{0x125340, table, 2},
		{0x125350, table, 3},
	}
	for _, tt := range tests {
		info := good().info
		if got := binary.LittleEndian.Uint32(h.ask(t, 4, 'R', &info, tt.where, tt.table)); got != tt.want {
			t.Errorf("RSDP at %#x: %d, want %d", tt.where, got, tt.want)
		}
	}
}

// pvhRange is struct hvm_memmap_table_entry.
type pvhRange struct {
	Addr, Size     uint64
	Kind, Reserved uint32
}

func TestPVHMap(t *testing.T) {
	h := startHarness(t)
	many := make([]pvhRange, 300)
	var all []mapEntry
	for i := range many {
		many[i] = pvhRange{Addr: uint64(i) << 13, Size: 4096, Kind: 1}
		if i < 170 {
			all = append(all, mapEntry{Page: uint64(2 * i), Pages: 1})
		}
	}
	tests := []struct {
		name string
		in   []pvhRange
		want []mapEntry
	}{
		{"none", nil, nil},
		{
			"SeaBIOS",
			[]pvhRange{{0, 0x9fc00, 1, 0}, {0x9fc00, 0x400, 2, 0}, {0xf0000, 0x10000, 2, 0}, {0x100000, 0xfee0000, 1, 0}},
			[]mapEntry{{Pages: 0x9f}, {Page: 0x9f, Pages: 1, Kind: reserved}, {Page: 0xf0, Pages: 0x10, Kind: reserved}, {Page: 0x100, Pages: 0xfee0}},
		},
		{
			"two reserved in one page",
			[]pvhRange{{0x1000, 0x100, 2, 0}, {0x1100, 0x2000, 3, 0}},
			[]mapEntry{{Page: 1, Pages: 1, Kind: reserved}, {Page: 2, Pages: 2, Kind: reserved}},
		},
		{"RAM of less than a page", []pvhRange{{0x1800, 0x1000, 1, 0}}, nil},
		{"size wraps", []pvhRange{{0x1000, 1<<64 - 1, 2, 0}}, []mapEntry{{Page: 1, Pages: 1<<52 - 1, Kind: reserved}}},
		{"more than fit", many, all},
		{
			"a real overlap stays one",
			[]pvhRange{{0, 0x10000, 1, 0}, {0x4000, 0x1000, 2, 0}},
			[]mapEntry{{Pages: 0x10}, {Page: 4, Pages: 1, Kind: reserved}},
		},
	}
	for _, tt := range tests {
		want, err := binary.Append(nil, binary.LittleEndian, tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got := h.ask(t, pageSize, 'M', uint32(len(tt.in)), tt.in)
		if !bytes.Equal(got, padded(want, pageSize)) {
			t.Errorf("%s: %x", tt.name, got[:96])
		}
	}
}

func TestPVHCommandLine(t *testing.T) {
	h := startHarness(t)
	for in, want := range map[string]string{
		"": "", "quiet": "quiet", strings.Repeat("a", 2047): strings.Repeat("a", 2047), strings.Repeat("b", 4096): strings.Repeat("b", 2047),
	} {
		got := h.ask(t, 2048, 'L', padded([]byte(in), pageSize))
		if !bytes.Equal(got, padded([]byte(want), 2048)) {
			t.Errorf("%.10q of %d bytes: %.20q", in, len(in), got)
		}
	}
}

// The numbers that C and Go share.
func TestSharedConstants(t *testing.T) {
	h := startHarness(t)
	want := map[string]uint64{
		"IMAGE_GPA": uint64(layout.InfoGPA), "IMAGE_MAGIC": good().info.Magic, "IMAGE_VERSION": 1,
		"sizeof(struct image)": uint64(binary.Size(layout.Info{})), "FLAG_DEBUG": uint64(handoff.FlagDebug),
		"SETUP_DATA_TYPE": handoff.SetupDataType, "SETUP_DATA_HEADER": 16, "HANDOFF_MAGIC": handoff.Magic,
		"HANDOFF_VERSION": handoff.Version, "MAX_RANGES": handoff.MaxRanges, "MAX_VPS": handoff.MaxVPs,
		"E820_RAM": uint64(handoff.MemoryRAM), "E820_RESERVED": uint64(handoff.MemoryReserved),
		"offsetof(struct handoff, ranges) - SETUP_DATA_HEADER": handoff.HeaderBytes,
		"sizeof(struct range)":                                 handoff.RangeBytes, "sizeof(struct map_entry)": 24, "SEL_CODE": 0x10, "SEL_DATA": 0x18,
	}
	// Fields of layout.Info in C's spelling, at the offsets that encoding gives.
	names := map[string]string{
		"PageTables": "page_tables", "StackTop": "stack_top", "CmdlineOut": "cmdline_out", "BootParams": "boot_params",
		"ParamMap": "param_map", "ParamVP": "param_vp", "ParamHost": "param_host", "IGVMEntry": "igvm_entry",
		"PVHEntry": "pvh_entry", "SetupHeader": "setup_header",
	}
	info := reflect.ValueOf(layout.Info{})
	offset := uint64(0)
	for i := range info.NumField() {
		name := info.Type().Field(i).Name
		if c, ok := names[name]; ok {
			name = c
		}
		want["image."+strings.ToLower(name)] = offset
		offset += uint64(binary.Size(info.Field(i).Interface()))
	}
	h.ask(t, 0, 'C')
	for {
		line, err := h.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "end 0\n" {
			break
		}
		at := strings.LastIndexByte(line, ' ')
		var value uint64
		if _, err := fmt.Sscan(line[at:], &value); err != nil {
			t.Fatal(err)
		}
		if w, ok := want[line[:at]]; !ok || w != value {
			t.Errorf("%s is %#x in C, %#x in Go", line[:at], value, w)
		}
		delete(want, line[:at])
	}
	if len(want) != 0 {
		t.Errorf("not in C: %v", want)
	}
}

// FuzzBuild feeds hostile memory maps; whatever is accepted must be a handoff
// that the paravisor's parser accepts, with the image in RAM.
func FuzzBuild(f *testing.F) {
	h := startHarness(f)
	for _, r := range [][]mapEntry{good().memory, comb(128), {{Page: 0x2000, Pages: 0x2000}, {Pages: 0x2000}}} {
		b, err := binary.Append(nil, binary.LittleEndian, r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint32(2), "quiet")
	}
	f.Fuzz(func(t *testing.T, b []byte, vps uint32, host string) {
		r := good()
		r.vps, r.hostCmdline, r.info.Flags = vps, host, handoff.FlagDebug
		r.memory = make([]mapEntry, min(len(b), pageSize)/24)
		if _, err := binary.Decode(b, binary.LittleEndian, r.memory); err != nil {
			t.Fatal(err)
		}
		a := h.build(t, r)
		if a.reason != ok {
			return
		}
		hd := parseHandoff(t, a.handoff)
		inRAM := false
		for _, m := range hd.Memory {
			inRAM = inRAM || m.Type == handoff.MemoryRAM && m.Start <= r.info.Kernel.Start && m.End() >= r.info.Kernel.End()
		}
		if !inRAM || hd.VPs != vps || !reflect.DeepEqual(e820(a.bootParams), hd.Memory) || !bytes.Contains(a.cmdline[:2048], []byte{0}) {
			t.Fatalf("accepted: %+v", hd)
		}
	})
}

func TestBuildIsReproducible(t *testing.T) {
	a, err := shim.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b, err := shim.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	cached, err := shim.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(b, cached) {
		t.Error("three builds differ")
	}
	if a.IGVMEntry != shim.Base {
		t.Errorf("entry at %#x", a.IGVMEntry)
	}
}
