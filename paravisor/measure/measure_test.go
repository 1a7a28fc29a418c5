package measure

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"keel/vtpm/eventlog"
)

var banks = []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}

// files are the inputs before they are hashed.
type files struct {
	version, configuration, hints, line string
	image, acpi, kernel, initrd         []byte
}

func someFiles() files {
	return files{
		version: "Keel 1.2", configuration: `{"vps":2}`, hints: "tsc_early_khz=1", line: "console=ttyS0 root=/dev/sda ü",
		image: []byte("image"), acpi: []byte("DSDT"), kernel: bytes.Repeat([]byte("kernel"), 1000), initrd: []byte("070701 initrd"),
	}
}

func (f files) inputs(t *testing.T, banks []eventlog.Algorithm) Inputs {
	t.Helper()
	object := func(name string, b []byte) Object {
		o, err := Read(banks, name, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	initrd := object("initrd", f.initrd)
	return Inputs{
		Version: f.version, Image: object("Keel image", f.image), Configuration: []byte(f.configuration), Hints: f.hints,
		Tables: []Object{object("ACPI DATA", f.acpi)}, Kernel: object("Linux kernel", f.kernel), Initrd: &initrd, CommandLine: f.line,
	}
}

func expected(t *testing.T, banks []eventlog.Algorithm, in Inputs) map[eventlog.Algorithm]eventlog.PCRs {
	t.Helper()
	pcrs, err := Expected(banks, in)
	if err != nil {
		t.Fatal(err)
	}
	return pcrs
}

// TestOneByte: a change in one input changes one PCR, in every bank, and no other.
func TestOneByte(t *testing.T) {
	base := expected(t, banks, someFiles().inputs(t, banks))
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	last := func(b []byte) int { return len(b) - 1 }
	for _, c := range []struct {
		name   string
		pcr    int
		change func(*files)
	}{
		{"first byte of the kernel", 4, func(f *files) { f.kernel = flip(f.kernel, 0) }},
		{"last byte of the kernel", 4, func(f *files) { f.kernel = flip(f.kernel, last(f.kernel)) }},
		{"first byte of the initrd", 9, func(f *files) { f.initrd = flip(f.initrd, 0) }},
		{"last byte of the initrd", 9, func(f *files) { f.initrd = flip(f.initrd, last(f.initrd)) }},
		{"first byte of the command line", 12, func(f *files) { f.line = "d" + f.line[1:] }},
		{"last letter of the command line", 12, func(f *files) { f.line = strings.TrimSuffix(f.line, "ü") + "ö" }},
		{"space at its end", 12, func(f *files) { f.line += " " }},
		{"no command line", 12, func(f *files) { f.line = "" }},
		{"version", 0, func(f *files) { f.version += "1" }},
		{"image", 0, func(f *files) { f.image = flip(f.image, 0) }},
		{"configuration", 1, func(f *files) { f.configuration = `{"vps":3}` }},
		{"hints", 1, func(f *files) { f.hints = "tsc_early_khz=2" }},
		{"no hints", 1, func(f *files) { f.hints = "" }},
		{"ACPI tables", 1, func(f *files) { f.acpi = flip(f.acpi, 0) }},
	} {
		f := someFiles()
		c.change(&f)
		for bank, pcrs := range expected(t, banks, f.inputs(t, banks)) {
			for pcr := range pcrs {
				if changed := !bytes.Equal(pcrs[pcr], base[bank][pcr]); changed != (pcr == c.pcr) {
					t.Errorf("%s, %v: PCR %d changed: %v", c.name, bank, pcr, changed)
				}
			}
		}
	}
	without := someFiles().inputs(t, banks)
	without.Initrd = nil
	if pcrs := expected(t, banks, without); !bytes.Equal(pcrs[eventlog.SHA256][9], make([]byte, 32)) {
		t.Error("without an initrd PCR 9 is extended")
	}
}

// TestEvents compares with the table of the package's comment.
func TestEvents(t *testing.T) {
	f := someFiles()
	events, err := Events(banks, f.inputs(t, banks))
	if err != nil {
		t.Fatal(err)
	}
	sep := "\x00\x00\x00\x00"
	line := "c\x00o\x00n\x00s\x00o\x00l\x00e\x00=\x00t\x00t\x00y\x00S\x000\x00 \x00r\x00o\x00o\x00t\x00=\x00/\x00d\x00e\x00v\x00/\x00s\x00d\x00a\x00 \x00\xfc\x00\x00\x00"
	want := []struct {
		pcr          uint32
		kind         eventlog.EventType
		measured     string
		dataContains string
	}{
		{0, 0x8, "K\x00e\x00e\x00l\x00 \x001\x00.\x002\x00\x00\x00", ""},
		{0, 0x1, "image", "Keel image"},
		{1, 0xa, f.configuration, f.configuration},
		{1, 0xa, f.hints, f.hints},
		{1, 0xa, "DSDT", "ACPI DATA"},
		{7, 0x80000001, "", "S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00\x00"},
		{7, 0x80000001, "", "P\x00K\x00"},
		{7, 0x80000001, "", "K\x00E\x00K\x00"},
		{7, 0x80000001, "", "d\x00b\x00"},
		{7, 0x80000001, "", "d\x00b\x00x\x00"},
		{0, 4, sep, sep},
		{1, 4, sep, sep},
		{2, 4, sep, sep},
		{3, 4, sep, sep},
		{4, 4, sep, sep},
		{5, 4, sep, sep},
		{6, 4, sep, sep},
		{7, 4, sep, sep},
		{4, 0xc, string(f.kernel), "Linux kernel"},
		{9, 0x6, string(f.initrd), "\xec\x22\x3b\x8f\x0d\x00\x00\x00Linux initrd\x00"},
		{12, 0xd, line, line},
	}
	if len(events) != len(want) {
		t.Fatalf("%d events, want %d", len(events), len(want))
	}
	for i, w := range want {
		e := events[i]
		measured := []byte(w.measured)
		if w.measured == "" {
			measured = e.Data
		}
		digests := eventlog.Sum(banks, measured)
		if e.PCR != w.pcr || e.Type != w.kind || !bytes.Contains(e.Data, []byte(w.dataContains)) || !slices.EqualFunc(e.Digests, digests, equalDigest) {
			t.Errorf("event %d: PCR %d, type %#x, data %q", i, e.PCR, e.Type, e.Data)
		}
	}
}

func equalDigest(a, b eventlog.Digest) bool {
	return a.Algorithm == b.Algorithm && bytes.Equal(a.Value, b.Value)
}

func TestBadInputs(t *testing.T) {
	for name, change := range map[string]func(*Inputs){
		"command line with NUL":       func(in *Inputs) { in.CommandLine = "quiet\x00init=/bin/sh" },
		"command line without UTF-8":  func(in *Inputs) { in.CommandLine = "quiet \xff" },
		"hints with NUL":              func(in *Inputs) { in.Hints = "a\x00b" },
		"command line too long":       func(in *Inputs) { in.CommandLine = strings.Repeat("x", maxCommandLine+1) },
		"configuration too long":      func(in *Inputs) { in.Configuration = make([]byte, maxConfiguration+1) },
		"too many tables":             func(in *Inputs) { in.Tables = slices.Repeat(in.Tables, maxTables+1) },
		"kernel without digests":      func(in *Inputs) { in.Kernel.Digests = nil },
		"kernel without SHA-384":      func(in *Inputs) { in.Kernel.Digests = in.Kernel.Digests[:1] },
		"initrd with a short digest":  func(in *Inputs) { in.Initrd.Digests[0].Value = in.Initrd.Digests[0].Value[:20] },
		"table without a name":        func(in *Inputs) { in.Tables[0].Name = "" },
		"image with a name too long":  func(in *Inputs) { in.Image.Name = strings.Repeat("n", maxName+1) },
		"version that is not encoded": func(in *Inputs) { in.Version = "\xc3" },
	} {
		in := someFiles().inputs(t, banks)
		change(&in)
		if _, err := Events(banks, in); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewHasher([]eventlog.Algorithm{0x12}); !errors.Is(err, ErrInput) {
		t.Errorf("a bank that is not known: %v", err)
	}
}

// TestHasher: parts that arrive one by one give the digests of the whole.
func TestHasher(t *testing.T) {
	h, err := NewHasher(eventlog.Supported())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"ker", "", "nel"} {
		if n, err := h.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if o := h.Object("k"); !slices.EqualFunc(o.Digests, eventlog.Sum(eventlog.Supported(), []byte("kernel")), equalDigest) {
		t.Errorf("digests %v", o.Digests)
	}
}

// FuzzCommandLine: two command lines have the same PCR 12 only when they are the same.
func FuzzCommandLine(f *testing.F) {
	f.Add("quiet", "quiet ")
	f.Add("a\x00", "a")
	f.Add("\xff", "�")
	f.Add("😀", "\U0001f601")
	f.Fuzz(func(t *testing.T, a, b string) {
		var values [2]map[eventlog.Algorithm]eventlog.PCRs
		for i, line := range []string{a, b} {
			files := someFiles()
			files.line = line
			pcrs, err := Expected(banks, files.inputs(t, banks))
			if err != nil {
				return
			}
			values[i] = pcrs
		}
		same := maps.EqualFunc(values[0], values[1], func(x, y eventlog.PCRs) bool { return bytes.Equal(x[12], y[12]) })
		if same != (a == b) {
			t.Errorf("%q and %q: same PCR 12: %v", a, b, same)
		}
	})
}
