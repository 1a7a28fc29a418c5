package hostile

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// lie is what a host says in the parameter areas, in the place of what is so.
type lie struct {
	name string
	tell func(p *parameters, in *places)
	says string // of the shim's refusal; empty where the lie is of no use
}

// beyond is the first page behind 52 bits of address.
const beyond = 1 << 40

// lies are those that the shim of any image hears. What it accepts it hands on as it would
// without them, but for the memory that there is.
var lies = []lie{
	{"no memory", func(p *parameters, _ *places) { p.memory = nil }, "memory map is empty"},
	{"first entry empty", func(p *parameters, _ *places) { p.memory = append([]mapEntry{{Page: 1}}, p.memory...) }, "memory map is empty"},
	{"overlap", func(p *parameters, _ *places) { p.add(mapEntry{Page: p.ram().Page + 1, Pages: 1, Type: mapReserved}) }, "ranges that overlap"},
	{"the same twice", func(p *parameters, _ *places) { p.add(*p.ram()) }, "ranges that overlap"},
	{"reserved around everything", func(p *parameters, _ *places) { p.add(mapEntry{Pages: beyond, Type: mapReserved}) }, "ranges that overlap"},
	{"start beyond", func(p *parameters, _ *places) { p.add(mapEntry{Page: beyond + 1, Pages: 1}) }, "beyond 52 address bits"},
	{"end beyond", func(p *parameters, _ *places) { p.add(mapEntry{Page: beyond - 1, Pages: 2}) }, "beyond 52 address bits"},
	{"end wraps", func(p *parameters, _ *places) { p.add(mapEntry{Page: beyond - 1, Pages: ^uint64(0)}) }, "beyond 52 address bits"},
	{"too many ranges", func(p *parameters, _ *places) { comb(p, 160) }, "too many ranges"},
	{"a page without an end", func(p *parameters, _ *places) { comb(p, pageBytes/24-len(p.memory)) }, "too many ranges"},
	{"image reserved", func(p *parameters, _ *places) { p.ram().Type = mapReserved }, "too little memory"},
	{"image on persistent memory", func(p *parameters, _ *places) { p.ram().Type = mapPersistent }, "too little memory"},
	{"image of unknown type", func(p *parameters, _ *places) { p.ram().Type = 77 }, "too little memory"},
	{"no memory for the image", func(p *parameters, _ *places) { p.ram().Page += 1 << 16 }, "too little memory"},
	{"memory ends in the kernel", func(p *parameters, in *places) {
		p.ram().Pages = in.regions["kernel"].End()/pageBytes - 1 - p.ram().Page
	}, "too little memory"},
	{"gap in the shim", func(p *parameters, in *places) { p.gap(in.regions["shim"].Start/pageBytes, 1) }, "too little memory"},
	{"gap in the areas", func(p *parameters, in *places) { p.gap(in.regions[regionVPs].Start/pageBytes, 1) }, "too little memory"},
	{"gap in the initramfs", func(p *parameters, in *places) { p.gap(in.regions["initramfs"].Start/pageBytes+7, 1) }, "too little memory"},
	{"gap in the kernel", func(p *parameters, in *places) { p.gap(in.regions["kernel"].End()/pageBytes-1, 1) }, "too little memory"},
	{"no VPs", func(p *parameters, _ *places) { p.setVPs(0) }, "no VP count"},
	{"257 VPs", func(p *parameters, _ *places) { p.setVPs(257) }, "more VPs"},
	{"VPs without number", func(p *parameters, _ *places) { p.setVPs(^uint32(0)) }, "more VPs"},

	{"unsorted", func(p *parameters, _ *places) { slices.Reverse(p.memory) }, ""},
	{"flags and reserved fields", func(p *parameters, _ *places) {
		for i := range p.memory {
			p.memory[i].Flags, p.memory[i].Reserved = 0xffff, 0xffffffff
		}
	}, ""},
	{"memory ends with the image", func(p *parameters, in *places) { p.ram().Pages = in.end()/pageBytes - p.ram().Page }, ""},
	{"gaps elsewhere", func(p *parameters, in *places) {
		r := p.ram()
		end := r.Page + r.Pages
		r.Pages = in.end()/pageBytes - r.Page
		for at := in.end()/pageBytes + 1; at+128 <= end; at += 1024 {
			p.add(mapEntry{Page: at, Pages: 128})
		}
	}, ""},
	{"memory that is not there", func(p *parameters, _ *places) { p.add(mapEntry{Page: 1 << 22, Pages: 1 << 18}) }, ""},
	{"other VPs than there are", func(p *parameters, _ *places) { p.setVPs(200) }, ""},
	{"words behind the VP count", func(p *parameters, _ *places) { fill(p.vps[4:]) }, ""},
	{"ACPI tables in the shim", func(p *parameters, in *places) { p.setRSDP(in.regions["shim"].Start) }, ""},
	{"ACPI tables in the kernel", func(p *parameters, in *places) { p.setRSDP(in.regions["kernel"].Start) }, ""},
	{"ACPI tables out of reach", func(p *parameters, _ *places) { p.setRSDP(1 << 62) }, ""},
	{"ACPI tables nowhere", func(p *parameters, _ *places) { p.setRSDP(0xd0000000) }, ""},
	{"no ACPI tables in memory", func(p *parameters, _ *places) {
		p.setRSDP(p.ram().Page*pageBytes + p.ram().Pages*pageBytes - pageBytes)
	}, ""},
}

// comb adds ranges that do not touch each other.
func comb(p *parameters, n int) {
	for i := range uint64(n) {
		p.add(mapEntry{Page: 1<<20 + 2*i, Pages: 1})
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

// evil is a command line with which Keel's own kernel would run something else, or not
// confine the host's devices.
const evil = "init=/bin/sh rdinit=/none iommu=off keel.panic panic=0"

// commandLies concern an image that does not listen to its host, and one that does.
var commandLies = map[bool][]lie{
	false: {
		{"command line", func(p *parameters, _ *places) { p.setCommand(evil) }, ""},
		{"command line without an end", func(p *parameters, _ *places) { fill(p.host[commandLineAt:]) }, ""},
	},
	true: {
		{"command line without an end", func(p *parameters, _ *places) { fill(p.host[commandLineAt:]) }, "command line is too long"},
		{"command line too long with the image's", func(p *parameters, _ *places) { p.setCommand(strings.Repeat("a", 2046)) }, "command line is too long"},
	},
}

// TestLies tells the shim of a release and of a debug image every lie, on the VM's own
// processor: each is refused by name, or has no effect.
func TestLies(t *testing.T) {
	t.Parallel()
	for _, debug := range []bool{false, true} {
		image, name := tool.Image, "release"
		if debug {
			image, name = tool.Debug(t), "debug"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startShim(t, image)
			refusal, truth, command, rsdp := v.tell(t, v.honest)
			if refusal != "" || truth.VPs != 2 || rsdp == 0 || command == "" {
				t.Fatalf("the truth: %q, %+v, %q, %#x", refusal, truth, command, rsdp)
			}
			for _, l := range slices.Concat(lies, commandLies[debug]) {
				p := v.honest.clone()
				l.tell(p, v.places)
				refusal, h, said, tables := v.tell(t, p)
				switch {
				case l.says != "":
					if !strings.HasPrefix(refusal, "keel: shim: ") || !strings.Contains(refusal, l.says) {
						t.Errorf("%s: %q, want %q", l.name, refusal, l.says)
					}
				case refusal != "":
					t.Errorf("%s: %q", l.name, refusal)
				case said != command || tables != 0 && tables != rsdp || strings.HasPrefix(l.name, "ACPI") && tables != 0:
					t.Errorf("%s: command line %q, tables at %#x", l.name, said, tables)
				default:
					compare(t, l.name, h, truth, p)
				}
			}
		})
	}
}

// compare wants a handoff that says of the image what the truth says, and calls nothing
// RAM that the host did not.
func compare(t *testing.T, name string, h, truth *handoff.Handoff, p *parameters) {
	t.Helper()
	for _, r := range h.Memory {
		said := func(e mapEntry) bool {
			return e.Type == mapMemory && e.Page*pageBytes <= r.Start && r.End() <= (e.Page+e.Pages)*pageBytes
		}
		if r.Type == handoff.MemoryRAM && !slices.ContainsFunc(p.memory, said) {
			t.Errorf("%s: %#x to %#x is RAM", name, r.Start, r.End())
		}
	}
	got, want := *h, *truth
	got.Memory, got.RAMBytes, got.VPs = want.Memory, want.RAMBytes, want.VPs
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v", name, h)
	}
}

// nothing is a guest that is content to be alive.
var nothing = []byte{
	0xb8, 0x00, 0x00, 0x01, 0x01, // mov eax, 0x1010000
	0xff, 0xe0, // jmp rax
}

// TestLiesBooted has confidential VMs run with lies that the shim cannot know for such:
// they have no effect, or the run ends with a name for it. The guest runs no instruction
// with less than it was promised.
func TestLiesBooted(t *testing.T) {
	t.Parallel()
	p := program{code: nothing}
	kernel := p.write(t)
	in := placesOf(t, tool.Image)
	all := func(p *parameters, in *places) { // that have no effect
		for _, l := range slices.Concat(lies, commandLies[false]) {
			switch l.name {
			case "unsorted", "flags and reserved fields", "other VPs than there are", "words behind the VP count", "ACPI tables in the kernel", "command line":
				l.tell(p, in)
			}
		}
	}
	for _, tt := range []struct {
		name string
		tell func(p *parameters, in *places)
		want handoff.Outcome
		says string
		soak bool
	}{
		{"of no use", all, handoff.OutcomePoweroff, "", false},
		{"refused by the shim", func(p *parameters, _ *places) { p.setVPs(0) }, handoff.OutcomeHostRefused, "no VP count", false},
		{"less memory than is needed", func(p *parameters, _ *places) { p.ram().Pages = 144 << 20 / pageBytes }, handoff.OutcomeTooLittleMemory, "memory", false},
		{"no memory for Keel", func(p *parameters, in *places) { p.ram().Pages = in.end()/pageBytes - p.ram().Page }, handoff.OutcomeVMLost, "", true},
		{"gaps", func(p *parameters, _ *places) { p.gap(128<<20/pageBytes, 1) }, handoff.OutcomePoweroff, "", true},
		{"memory that is not there", func(p *parameters, _ *places) { p.add(mapEntry{Page: 1 << 22, Pages: 1 << 18}) }, handoff.OutcomeVMLost, "", true},
	} {
		if tt.soak && !soak {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, args := harness.NewDebugger(t)
			flags := []string{"--kernel", kernel, "--mem", "128M", "--isolation", "snp", "--timeout", "5m"}
			for _, a := range args {
				flags = append(flags, "--qemu-arg", a)
			}
			r := tool.Start(t, flags...)
			d.Dial(t)
			if at := d.RunTo(t, in.entry); at != in.entry {
				t.Fatalf("the VM stands at %#x", at)
			}
			said := in.read(t, d)
			tt.tell(said, in)
			in.plant(t, d, said)
			d.Detach(t)
			report := r.Wait(t, tt.want)
			if !strings.Contains(r.Stderr(), tt.says) {
				t.Errorf("stderr %q lacks %q", r.Stderr(), tt.says)
			}
			if ran := report.GuestEntryMS != nil; ran != (tt.want == handoff.OutcomePoweroff) || ran && r.Console() != "survived\n" {
				t.Errorf("the guest ran: %v, %q", ran, r.Console())
			}
		})
	}
}
