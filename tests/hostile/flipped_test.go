package hostile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keel/boot"
	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/hcl/abi/x86"
)

// Places in an image's first page (boot/layout).
const (
	infoPlatform = 16
	infoDigest   = 192
	infoPolicies = 0x200 + 24 // SNP's, then TDX's, 8 bytes each
)

// doctor changes an image.
type doctor struct {
	t       *testing.T
	file    *igvm.File
	regions map[string]handoff.Span
}

func newDoctor(t *testing.T, image string) *doctor {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	f, err := igvm.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return &doctor{t, f, placesOf(t, image).regions}
}

// pages returns what is loaded at an address, by each platform its own, or by all the same.
// The first is the native platform's.
func (d *doctor) pages(gpa x86.GPA) (out []*igvm.PageData) {
	for _, h := range d.file.Headers {
		if p, ok := h.(*igvm.PageData); ok && p.GPA == gpa {
			out = append(out, p)
		}
	}
	return out
}

// flip changes the lowest bit of a byte.
func (d *doctor) flip(gpa x86.GPA, at int) {
	for _, p := range d.pages(gpa) {
		p.Data = bytes.Clone(p.Data) // equal pages are one in the file
		p.Data[at] ^= 1
	}
}

// lastByte finds the last byte of a region that is not zero.
func (d *doctor) lastByte(region string) (gpa x86.GPA, at int) {
	d.t.Helper()
	s := d.regions[region]
	for _, h := range slices.Backward(d.file.Headers) {
		p, ok := h.(*igvm.PageData)
		if !ok || uint64(p.GPA) < s.Start || uint64(p.GPA) >= s.End() {
			continue
		}
		if n := len(bytes.TrimRight(p.Data, "\x00")); n > 0 {
			return p.GPA, n - 1
		}
	}
	d.t.Fatalf("%s is empty", region)
	return 0, 0
}

// parts changes one byte in each part of an image, where nobody executes it.
var parts = map[string]func(d *doctor){
	"kernel":       func(d *doctor) { d.flip(d.lastByte("kernel")) }, // in the checksum of the bzImage
	"initramfs":    func(d *doctor) { d.flip(x86.GPA(d.regions["initramfs"].End())&^(pageBytes-1), pageBytes-1) },
	"command line": func(d *doctor) { d.flip(d.lastByte("command line, measured")) }, // "oops=panib"
	"policy": func(d *doctor) {
		d.flip(layout.InfoGPA, infoPolicies)   // SNP: least minor version of the ABI
		d.flip(layout.InfoGPA, infoPolicies+8) // TDX: debug
		first := d.pages(layout.InfoGPA)[0].Data
		policies := [2]uint64{binary.LittleEndian.Uint64(first[infoPolicies:]), binary.LittleEndian.Uint64(first[infoPolicies+8:])}
		for i, h := range d.policies() {
			h.Policy = policies[i]
		}
	},
}

// policies returns the headers of SNP's and TDX's.
func (d *doctor) policies() (out []*igvm.GuestPolicy) {
	for _, h := range d.file.Headers {
		if p, ok := h.(*igvm.GuestPolicy); ok {
			out = append(out, p)
		}
	}
	return out
}

// seal makes the image one that Keel takes for whole: its own digest is that of its pages.
func (d *doctor) seal() {
	h := sha256.New()
	info := d.pages(layout.InfoGPA)
	native := info[0]
	clear(native.Data[infoDigest:][:sha256.Size])
	for _, header := range d.file.Headers {
		switch p := header.(type) {
		case *igvm.PageData:
			if p.Mask&native.Mask != 0 {
				h.Write(binary.LittleEndian.AppendUint64(nil, uint64(p.GPA)))
				h.Write(p.Data)
			}
		case *igvm.VPContext:
			if p.Mask&native.Mask != 0 {
				h.Write(p.Data)
			}
		}
	}
	for _, p := range info {
		platform := binary.LittleEndian.Uint32(p.Data[infoPlatform:])
		p.Data = bytes.Clone(native.Data)
		binary.LittleEndian.PutUint32(p.Data[infoPlatform:], platform)
		h.Sum(p.Data[infoDigest:][:0])
	}
}

// write makes a file of the image.
func (d *doctor) write() string {
	d.t.Helper()
	b, err := igvm.Write(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	return file(d.t, "flipped.igvm", b)
}

// hanging says that it runs, and does nothing else.
var hanging = append(slices.Clone(waiting[:8:8]),
	0xfa,       // cli
	0xf4,       // hlt
	0xeb, 0xfc, // jmp cli
)

// TestFlipped is a host that starts an image of which one byte is another. The tool starts
// none that is not whole. One that its maker has sealed again starts, and its evidence says
// so: it is not that of the right image, and the part is named.
func TestFlipped(t *testing.T) {
	t.Parallel()
	p := program{code: hanging}
	kernel := p.write(t)
	for part, flip := range parts {
		damaged, sealed := newDoctor(t, tool.Image), newDoctor(t, tool.Image)
		flip(damaged)
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			refuse(t, handoff.OutcomeBadImage, "", "--kernel", kernel, "--image", damaged.write(), "--isolation", "snp")
		})
		flip(sealed)
		sealed.seal()
		image := sealed.write()
		for _, isolation := range boot.Isolated {
			if ci := part == "kernel" && isolation == "snp" || part == "policy" && isolation == "tdx"; !ci && !soak {
				continue
			}
			t.Run(part+", sealed, "+isolation, func(t *testing.T) {
				t.Parallel()
				r := tool.Start(t, "--kernel", kernel, "--mem", "128M", "--image", image, "--isolation", isolation, "--timeout", "5m")
				r.Until(t, "a guest that runs", func() bool { return r.Console() != "" })
				right := []string{"attest", r.Name, "--image", tool.Image, "--allow-emulated"}
				says(t, right, handoff.OutcomeBadEvidence, "measurement differs")
				named := part
				if part == "policy" {
					named = "info" // the page that has it
				}
				said := says(t, append(right, "--reference", image), handoff.OutcomeBadEvidence, named)
				for other := range parts {
					if other != part && strings.Contains(said, other) {
						t.Errorf("%s differs, and it says %q", part, said)
					}
				}
				says(t, []string{"attest", r.Name, "--image", image, "--allow-emulated"}, handoff.OutcomePoweroff, "")
				if err := r.Cmd.Process.Signal(unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				r.Wait(t, handoff.OutcomeQuit)
			})
		}
	}
}

// says runs the tool and wants it to end as it should. It returns what it said.
func says(t *testing.T, args []string, want handoff.Outcome, words string) string {
	t.Helper()
	cmd := exec.Command(tool.Path, args...)
	b, _ := cmd.CombinedOutput() // the status is in ProcessState
	said := string(b)
	if got := cmd.ProcessState.ExitCode(); got != want.ExitCode() || !strings.Contains(said, words) {
		t.Errorf("keel %q: exit status %d, %q; want %s, %q", args, got, said, want, words)
	}
	return said
}
