package qemu

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

func TestParseDisk(t *testing.T) {
	for text, want := range map[string]Disk{
		"a.img":                            {Files: []string{"a.img"}, Front: FrontVirtioSCSI, BlockSize: 512},
		"a,,b.img,ro":                      {Files: []string{"a,b.img"}, Front: FrontVirtioSCSI, BlockSize: 512, ReadOnly: true},
		"a,front=storvsc,bs=4096":          {Files: []string{"a"}, Front: FrontStorVSC, BlockSize: 4096},
		"a.iso,dvd":                        {Files: []string{"a.iso"}, Front: FrontVirtioSCSI, BlockSize: 512, DVD: true, ReadOnly: true},
		"a,stripe=b+c":                     {Files: []string{"a", "b", "c"}, Front: FrontVirtioSCSI, BlockSize: 512, Chunk: 64 << 10},
		"stripe=b+c,chunk=128k,bs=512":     {Files: []string{"b", "c"}, Front: FrontVirtioSCSI, BlockSize: 512, Chunk: 128 << 10},
		"a,stripe=b,chunk=8192":            {Files: []string{"a", "b"}, Front: FrontVirtioSCSI, BlockSize: 512, Chunk: 8 << 10},
		"dir=x/a.img,front=virtio-scsi,ro": {Files: []string{"dir=x/a.img"}, Front: FrontVirtioSCSI, BlockSize: 512, ReadOnly: true},
	} {
		if got, err := ParseDisk(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ",ro", "a,", "a,rw", "a,ro=1", "a,bs=1024", "a,bs", "a,front=ide", "a,chunk=64k", "a,stripe=", "a,stripe=b+",
		"a,stripe=b,chunk=3k", "a,stripe=b,chunk=48k", "a,stripe=b,chunk=32M", "a,stripe=b+c+d+e+f+g+h+i", "a,stripe=b,dvd", "a,dvd,bs=4096",
	} {
		if got, err := ParseDisk(text); OutcomeOf(err) != handoff.OutcomeUsage || !strings.Contains(err.Error(), "use FILE") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// image makes a file of a size.
func image(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNameDisks(t *testing.T) {
	a, b, c := image(t, "a", 1<<20), image(t, "b", 2<<20), image(t, "c", 2<<20)
	disks := []Disk{
		{Files: []string{a}, Front: FrontVirtioSCSI, BlockSize: 512, ReadOnly: true},
		{Files: []string{b, c}, Front: FrontVirtioSCSI, BlockSize: 4096, Chunk: 64 << 10},
		{Files: []string{a}, Front: FrontStorVSC, BlockSize: 512, ReadOnly: true},
	}
	if err := NameDisks(disks); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, lun := range []int{0, 1, 0} {
		d := disks[i]
		if d.LUN != lun || len(d.Serials) != len(d.Files) {
			t.Errorf("disk %d: %+v", i, d)
		}
		for _, s := range d.Serials {
			if seen[s] || len(s) != 20 {
				t.Errorf("serial number %q", s)
			}
			seen[s] = true
		}
	}
	more := append([]Disk{disks[1], disks[2]}, Disk{Files: []string{a}, Front: FrontVirtioSCSI, BlockSize: 512, ReadOnly: true})
	if err := NameDisks(more); err != nil || more[2].LUN != 0 || more[0].LUN != 1 || more[2].Serials[0] == more[1].Serials[0] {
		t.Errorf("%+v, %v: a disk that comes later", more, err)
	}
	again := []Disk{{Files: []string{a}, BlockSize: 512}}
	if err := NameDisks(again); err != nil || again[0].Serials[0] != disks[0].Serials[0] {
		t.Errorf("%+v, %v: the serial number is another one", again, err)
	}
}

func TestBadDisks(t *testing.T) {
	a, b := image(t, "a", 1<<20), image(t, "b", 2<<20)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Link(a, link); err != nil {
		t.Fatal(err)
	}
	locked := image(t, "locked", 1<<20)
	f, err := os.OpenFile(locked, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As QEMU locks what it writes: shared locks, on a byte for each right.
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: permBase + permWrite, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	disk := func(change func(*Disk), files ...string) Disk {
		d := Disk{Files: files, Front: FrontVirtioSCSI, BlockSize: 512}
		if change != nil {
			change(&d)
		}
		return d
	}
	ro := func(d *Disk) { d.ReadOnly = true }
	for name, tt := range map[string]struct {
		disks []Disk
		says  string
	}{
		"missing":        {[]Disk{disk(nil, a+".none")}, "no such file"},
		"directory":      {[]Disk{disk(ro, filepath.Dir(a))}, "neither"},
		"character":      {[]Disk{disk(ro, "/dev/null")}, "neither"},
		"small":          {[]Disk{disk(nil, image(t, "s", 4096))}, "too small"},
		"misaligned":     {[]Disk{disk(nil, image(t, "m", 1<<20+100))}, "whole number"},
		"misaligned, 4K": {[]Disk{disk(func(d *Disk) { d.BlockSize = 4096 }, image(t, "k", 1<<20+512))}, "whole number"},
		"odd disc":       {[]Disk{disk(func(d *Disk) { d.DVD, d.ReadOnly = true, true }, image(t, "d", 100<<10+512))}, "whole number"},
		"odd stripe":     {[]Disk{disk(func(d *Disk) { d.Chunk = 1 << 20 }, image(t, "x", 3<<19), image(t, "y", 3<<19))}, "whole number"},
		"unequal stripe": {[]Disk{disk(func(d *Disk) { d.Chunk = 64 << 10 }, a, b)}, "1048576 and of 2097152"},
		"twice":          {[]Disk{disk(nil, a), disk(nil, b), disk(nil, a)}, "two disks"},
		"twice, one ro":  {[]Disk{disk(ro, a), disk(nil, a)}, "two disks"},
		"hard link":      {[]Disk{disk(nil, a), disk(nil, link)}, "two disks"},
		"locked":         {[]Disk{disk(nil, locked)}, "locked"},
		"locked, ro":     {[]Disk{disk(ro, locked)}, "locked"},
		"many":           {make([]Disk, 0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "many" {
				for range MaxDisks + 1 {
					tt.disks = append(tt.disks, disk(ro, a))
				}
				tt.says = "too many"
			}
			err := NameDisks(tt.disks)
			f, ok := errors.AsType[*handoff.Failure](err)
			if !ok || f.Outcome != handoff.OutcomeBadDisk || f.Remedy == "" || !strings.Contains(f.Error(), tt.says) || strings.Contains(f.Error(), "\n") {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestDiskArguments(t *testing.T) {
	m := machine{disks: []Disk{
		{Files: []string{"/a,b"}, Serials: []string{"S0"}, BlockSize: 4096, ReadOnly: true},
		{Files: []string{"/c", "/d"}, Serials: []string{"S1", "S2"}, BlockSize: 512},
	}}
	got := strings.Join(m.diskArguments(), " ")
	for _, want := range []string{
		"-device intel-iommu,intremap=on ",
		"pcie-root-port,id=port6,chassis=7,addr=0x10.6,multifunction=on",
		`"filename":"/a,b","read-only":true`,
		`{"bus":"port0","drive":"image0","driver":"nvme","id":"nvme0","logical_block_size":4096,"physical_block_size":4096,"serial":"S0"}`,
		`{"bus":"port2","drive":"image2","driver":"nvme","id":"nvme2","logical_block_size":512,`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if strings.Contains(got, "port7") {
		t.Errorf("more than %d spare ports: %s", sparePorts, got)
	}
	if got := disksReserve(m.disks, 4); got != (4+8+7*(8+4+7)/8)<<20 {
		t.Errorf("%d bytes of memory for disks", got)
	}
	m.disks = nil
	if got := disksReserve(m.disks, 4); got != 0 {
		t.Errorf("%d bytes of memory without disks", got)
	}
	if got := m.diskArguments(); got != nil {
		t.Errorf("without disks: %q", got)
	}
}
