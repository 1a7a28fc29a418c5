package hostile

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/boot"
	"keel/boot/handoff"
	"keel/tests/harness"
)

// Types of an IGVM memory map's entries (IGVM_MEMORY_MAP_ENTRY_TYPE).
const (
	mapMemory = iota
	mapReserved
	mapPersistent
)

// mapEntry is IGVM_VHS_MEMORY_MAP_ENTRY.
type mapEntry struct {
	Page, Pages uint64
	Type, Flags uint16
	Reserved    uint32
}

// pageBytes is the size of a page, and of a parameter area.
const pageBytes = 4096

// commandLineAt is where the area that only the PVH entry fills has the host's command
// line, behind the address of the ACPI tables (struct host_page of boot/shim).
const commandLineAt = 8

// parameters are the IGVM parameter areas as the shim finds them.
type parameters struct {
	memory []mapEntry
	vps    []byte
	host   []byte
}

// ram returns the entry that has the image.
func (p *parameters) ram() *mapEntry {
	i := slices.IndexFunc(p.memory, func(e mapEntry) bool { return e.Type == mapMemory && e.Page <= 0x100 && e.Page+e.Pages > 0x100 })
	return &p.memory[i]
}

func (p *parameters) setVPs(n uint32)     { binary.LittleEndian.PutUint32(p.vps, n) }
func (p *parameters) setRSDP(gpa uint64)  { binary.LittleEndian.PutUint64(p.host, gpa) }
func (p *parameters) setCommand(s string) { copy(p.host[commandLineAt:], s+"\x00") }
func (p *parameters) add(e ...mapEntry)   { p.memory = append(p.memory, e...) }
func (p *parameters) clone() *parameters {
	return &parameters{slices.Clone(p.memory), bytes.Clone(p.vps), bytes.Clone(p.host)}
}

func (p *parameters) gap(page, pages uint64) {
	r := p.ram()
	end := r.Page + r.Pages
	r.Pages = page - r.Page
	p.add(mapEntry{Page: page + pages, Pages: end - page - pages})
}

// places are those of an image that concern its host.
type places struct {
	entry, kernelEntry uint64
	regions            map[string]handoff.Span
}

// Regions of an image (boot/layout).
const (
	regionMap  = "parameter: memory map"
	regionVPs  = "parameter: VP count"
	regionHost = "parameter: PVH host"
)

func placesOf(t *testing.T, image string) *places {
	t.Helper()
	s, err := boot.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	p := &places{regions: map[string]handoff.Span{}}
	for _, r := range s.Regions {
		p.regions[r.Name] = r.Span
	}
	if p.entry, err = strconv.ParseUint(s.Entry["igvm"], 0, 64); err != nil {
		t.Fatal(err)
	}
	p.kernelEntry = p.regions["kernel"].Start + 0x200 // Documentation/arch/x86/boot.rst, 64-bit entry
	return p
}

// end is the first address behind the image.
func (p *places) end() uint64 {
	return max(p.regions["kernel"].End(), p.regions["initramfs"].End()+pageBytes-1) &^ (pageBytes - 1)
}

// read returns what the host has said to a VM that stands at the image's entry.
func (p *places) read(t *testing.T, d *harness.Debugger) *parameters {
	t.Helper()
	page := func(name string) []byte { return d.Read(t, p.regions[name].Start, pageBytes) }
	said := &parameters{vps: page(regionVPs), host: page(regionHost)}
	for b := page(regionMap); ; b = b[binary.Size(mapEntry{}):] {
		var e mapEntry
		if _, err := binary.Decode(b, binary.LittleEndian, &e); err != nil {
			t.Fatal(err)
		}
		if e.Pages == 0 {
			return said
		}
		said.add(e)
	}
}

// plant puts lies in the place of what the host has said.
func (p *places) plant(t *testing.T, d *harness.Debugger, lies *parameters) {
	t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, lies.memory)
	if err != nil || len(b) > pageBytes {
		t.Fatalf("%d bytes of a memory map, %v", len(b), err)
	}
	d.Write(t, p.regions[regionMap].Start, append(b, make([]byte, pageBytes-len(b))...))
	d.Write(t, p.regions[regionVPs].Start, lies.vps)
	d.Write(t, p.regions[regionHost].Start, lies.host)
}

// shimVM is a VM that stands at its image's entry again and again.
type shimVM struct {
	*places
	d      *harness.Debugger
	serial string
	start  harness.Registers
	honest *parameters
	halt   uint64 // where the shim ends that has refused
}

// startShim starts a VM with an image as the launcher does, but for what comes behind the
// shim.
func startShim(t *testing.T, image string) *shimVM {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	elf, err := boot.PVHFromIGVM(b)
	if err != nil {
		t.Fatal(err)
	}
	d, args := harness.NewDebugger(t)
	v := &shimVM{places: placesOf(t, image), d: d, serial: filepath.Join(t.TempDir(), "serial")}
	cmd := exec.Command("qemu-system-x86_64", append(args, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-bios", "qboot.rom", "-accel", "tcg", "-cpu", "EPYC-Rome,+svm", "-smp", "2", "-m", "192M",
		"-serial", "file:"+v.serial, "-kernel", file(t, "image.elf", elf))...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	d.Dial(t)
	if at := d.RunTo(t, v.entry); at != v.entry {
		t.Fatalf("the VM stands at %#x", at)
	}
	v.start, v.honest = d.Registers(t), v.read(t, d)
	const cliHLT = "\xfa\xf4"
	code := d.Read(t, v.regions["shim"].Start, int(v.regions["shim"].Size))
	if n := bytes.Count(code, []byte(cliHLT)); n != 1 {
		t.Fatalf("the shim halts in %d places", n)
	}
	v.halt = v.regions["shim"].Start + uint64(bytes.Index(code, []byte(cliHLT)))
	return v
}

// tell has the shim hear lies. It returns what it refuses them with, or else what it hands
// to the kernel: the handoff, the command line and the address of the ACPI tables.
func (v *shimVM) tell(t *testing.T, lies *parameters) (refusal string, h *handoff.Handoff, command string, rsdp uint64) {
	t.Helper()
	before, err := os.ReadFile(v.serial)
	if err != nil {
		t.Fatal(err)
	}
	v.d.SetRegisters(t, v.start)
	v.plant(t, v.d, lies)
	if v.d.RunTo(t, v.halt, v.kernelEntry) == v.halt {
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			after, err := os.ReadFile(v.serial)
			if err != nil || time.Now().After(end) {
				t.Fatalf("no refusal in %q, %v", after, err)
			}
			if s := string(after[len(before):]); strings.HasSuffix(s, "\n") {
				return strings.TrimSpace(s), nil, "", 0
			}
		}
	}
	node := v.d.Read(t, v.regions["handoff"].Start, pageBytes)
	const head = 16 // of a setup_data node: next, type, length
	if h, err = handoff.Parse(node[head:][:binary.LittleEndian.Uint32(node[12:])]); err != nil {
		t.Fatal(err)
	}
	text, _, _ := bytes.Cut(v.d.Read(t, v.regions["command line"].Start, pageBytes), []byte{0})
	return "", h, string(text), binary.LittleEndian.Uint64(v.d.Read(t, v.regions["boot_params"].Start+0x70, 8))
}
