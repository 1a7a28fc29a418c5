package kernelcfg

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module returns an ELF file with nothing but a section .modinfo (ELF gABI).
func module(entries ...string) []byte {
	const header, sectionHeader = 64, 64
	info := strings.Join(entries, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	body := info + names
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(uint16(elf.ET_REL))
	put(uint16(elf.EM_X86_64))
	put(uint32(1))
	put(uint64(0))
	put(uint64(0))
	put(uint64(header + len(body))) // section headers
	put(uint32(0))
	for _, v := range []uint16{header, 0, 0, sectionHeader, 3, 2} {
		put(v)
	}
	b.WriteString(body)
	b.Write(make([]byte, sectionHeader))
	section := func(name uint32, kind elf.SectionType, at, size int) {
		put(name)
		put(uint32(kind))
		put(uint64(0))
		put(uint64(0))
		put(uint64(at))
		put(uint64(size))
		put([2]uint32{})
		put(uint64(1))
		put(uint64(0))
	}
	section(1, elf.SHT_PROGBITS, header, len(info))
	section(10, elf.SHT_STRTAB, header+len(info), len(names))
	return b.Bytes()
}

func TestReadModinfo(t *testing.T) {
	got, err := readModinfo(bytes.NewReader(module("license=GPL", "name=virtio_scsi", "depends=scsi_mod,virtio-ring,,virtio",
		"softdep=pre: crc32c crct10dif-pclmul post: late", "alias=virtio:d00000008v*", "alias=crypto-crc32c")))
	if err != nil {
		t.Fatal(err)
	}
	if got.name != "virtio_scsi" || !slices.Equal(got.depends, []string{"scsi_mod", "virtio_ring", "virtio"}) ||
		!slices.Equal(got.pre, []string{"crc32c", "crct10dif_pclmul"}) || !slices.Equal(got.aliases, []string{"crypto_crc32c"}) {
		t.Errorf("got %+v", got)
	}
	for name, file := range map[string][]byte{"text": []byte("no ELF"), "empty": nil, "cut": module("name=x")[:100]} {
		if _, err := readModinfo(bytes.NewReader(file)); !errors.Is(err, errModinfo) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzReadModinfo(f *testing.F) {
	f.Add(module("name=a", "depends=b,c"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, file []byte) {
		m, err := readModinfo(bytes.NewReader(file))
		if err != nil && !errors.Is(err, errModinfo) {
			t.Errorf("error %v", err)
		}
		for _, name := range slices.Concat(m.depends, m.pre, m.aliases) {
			if name == "" || strings.ContainsAny(name, "- \x00") {
				t.Errorf("name %q", name)
			}
		}
	})
}

func TestResolve(t *testing.T) {
	x := &moduleIndex{
		files: map[string]string{},
		info: map[string]modinfo{
			"virtio": {}, "virtio_ring": {}, "virtio_pci": {depends: []string{"virtio_ring", "virtio"}},
			"scsi_mod": {}, "virtio_scsi": {depends: []string{"virtio", "virtio_ring", "scsi_mod"}},
			"sd_mod": {depends: []string{"scsi_mod"}},
			"xfs":    {depends: []string{"libcrc32c"}}, "libcrc32c": {pre: []string{"crc32c", "no_such"}},
			"crc32c_intel": {aliases: []string{"crc32c_fast"}},
			"soft":         {pre: []string{"softer"}}, "softer": {depends: []string{"soft"}},
			"loop_a": {depends: []string{"loop_b"}}, "loop_b": {depends: []string{"loop_a"}},
			"broken": {depends: []string{"missing"}},
		},
		builtin: []string{"ext4", "crc32c"},
	}
	for name := range x.info {
		x.files[name] = "lib/modules/1/" + name + ".ko"
	}
	tests := []struct {
		names string
		want  string // in order; an error when it begins with !
	}{
		{"virtio_scsi virtio-pci sd_mod", "virtio virtio_ring scsi_mod virtio_scsi virtio_pci sd_mod"},
		{"sd_mod virtio_scsi", "scsi_mod sd_mod virtio virtio_ring virtio_scsi"},
		{"ext4", ""},
		{"xfs", "libcrc32c xfs"},
		{"crc32c", ""},
		{"crc32c_fast", "crc32c_intel"},
		{"soft", "soft"}, // what it would like needs it
		{"softer", "soft softer"},
		{"virtio virtio", "virtio"},
		{"loop_a", "!needs itself"},
		{"broken", "!missing, needed by broken"},
		{"none", "!no module none"},
	}
	for _, tt := range tests {
		t.Run(tt.names, func(t *testing.T) {
			got, err := x.resolve(strings.Fields(tt.names)...)
			if message, isError := strings.CutPrefix(tt.want, "!"); isError {
				if err == nil || !strings.Contains(err.Error(), message) {
					t.Errorf("error %v, want %q", err, message)
				}
				return
			}
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestTakeModules(t *testing.T) {
	tree := t.TempDir()
	dir := filepath.Join(tree, "lib/modules/6.1.0-1-cloud-amd64")
	for name, data := range map[string][]byte{
		"kernel/drivers/scsi/scsi_mod.ko":      module("name=scsi_mod", "depends="),
		"kernel/drivers/scsi/virtio_scsi.ko":   module("name=virtio_scsi", "depends=virtio,scsi_mod"),
		"kernel/drivers/virtio/virtio.ko":      module("name=virtio", "depends="),
		"kernel/arch/x86/crypto/crc32-fast.ko": module("name=crc32_fast"),
		"modules.builtin":                      []byte("kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n"),
		"modules.builtin.modinfo":              []byte("crc32c_generic.license=GPL\x00crc32c_generic.alias=crc32c\x00x.alias=pci:*\x00"),
	} {
		put(t, filepath.Join(dir, name), string(data))
	}
	var log bytes.Buffer
	cache, pin := fakeCache(t, "linux-image-6.1.0-1-cloud-amd64", packageOf(t, tree), &log)
	gone := pin
	gone.SHA256, gone.Pool = strings.Repeat("0", 64), "pool/gone.deb"
	names := func(want ...string) string {
		t.Helper()
		got, err := takeModules(t.Context(), cache, pinsOf(gone, pin), want)
		if err != nil {
			return "!" + err.Error()
		}
		var out []string
		for _, m := range got {
			if b, err := os.ReadFile(m.Path); err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) {
				t.Errorf("%s: %v", m.Path, err)
			}
			out = append(out, m.Name)
		}
		return strings.Join(out, " ")
	}
	if got := names("virtio_scsi", "ext4", "crc32c", "crc32c_generic"); got != "virtio scsi_mod virtio_scsi" {
		t.Errorf("got %q", got)
	}
	if got := names("crc32-fast"); got != "crc32_fast" {
		t.Errorf("got %q", got)
	}
	if got := names("nothing"); !strings.Contains(got, "no module nothing") {
		t.Errorf("got %q", got)
	}
	// What is taken out needs neither mirror nor package.
	if err := os.RemoveAll(cache.Dir); err != nil {
		t.Fatal(err)
	}
	cache.Root = t.TempDir()
	if got, err := takeModules(t.Context(), cache, pinsOf(pin), []string{"virtio_scsi"}); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	// A kernel that was taken out of a package that is gone must not get other modules.
	put(t, filepath.Join(filepath.Dir(cache.Dir), "guest", gone.SHA256[:16], "vmlinuz-6.1.0-1-cloud-amd64"), "kernel")
	put(t, filepath.Join(cache.Dir, pin.SHA256+".deb"), strings.Repeat(" ", int(pin.Size)))
	if got := names("virtio_scsi"); !strings.HasPrefix(got, "!") {
		t.Errorf("got %q", got)
	}
}

func TestIndexSurvivesItsFile(t *testing.T) {
	x := &moduleIndex{
		files:   map[string]string{"a": "lib/a.ko", "b": "lib/b.ko"},
		info:    map[string]modinfo{"a": {name: "a", depends: []string{"b"}, pre: []string{"c"}, aliases: []string{"d"}}, "b": {name: "b"}},
		builtin: []string{"c"},
	}
	dir := t.TempDir()
	if err := x.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadIndex(dir)
	if err != nil || got.files["a"] != "lib/a.ko" || !slices.Equal(got.info["a"].depends, []string{"b"}) ||
		!slices.Equal(got.info["a"].pre, []string{"c"}) || !slices.Equal(got.info["a"].aliases, []string{"d"}) || !slices.Equal(got.builtin, x.builtin) {
		t.Errorf("got %+v, %v", got, err)
	}
}
