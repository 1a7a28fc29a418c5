package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

// Disk is what one --disk asks for.
type Disk struct {
	Files     []string // images; several make a stripe
	Serials   []string // of the NVMe controllers, one for each file; NameDisks makes them
	Front     string   // "virtio-scsi" or "storvsc"
	LUN       int
	ReadOnly  bool
	DVD       bool
	Hidden    bool // it is Keel's own, and no change of a live VM reaches it
	BlockSize int  // bytes: 512 or 4096
	Chunk     int  // bytes; of a stripe, else 0
}

// Names of the front ends.
const (
	FrontVirtioSCSI = "virtio-scsi"
	FrontStorVSC    = "storvsc"
)

// Bounds of disks.
const (
	MaxDisks     = 24        // NVMe controllers of one VM: root ports of three PCI devices
	minDisk      = 1 << 20   // bytes
	minDisc      = 17 * 2048 // bytes; a disc without its 16 system sectors has nothing to read
	discSector   = 2048      // bytes
	defaultChunk = 64 << 10  // bytes
	minChunk     = 4 << 10   // bytes
	maxChunk     = 16 << 20  // bytes
	maxStripe    = 8         // files
)

const diskRemedy = "use FILE[,front=virtio-scsi|storvsc][,ro][,dvd][,bs=512|4096][,stripe=FILE+FILE][,chunk=SIZE]"

// ParseDisk reads the value of --disk: a file and what to do with it, apart by
// commas. A comma that belongs to a file's name is written twice. Its errors are of
// type *handoff.Failure.
func ParseDisk(s string) (Disk, error) {
	d := Disk{Front: FrontVirtioSCSI, BlockSize: 512}
	bad := func(format string, args ...any) (Disk, error) {
		return Disk{}, failure(handoff.OutcomeUsage, fmt.Sprintf("--disk %q: ", s)+fmt.Sprintf(format, args...), diskRemedy)
	}
	words := splitCommas(s)
	if words[0] != "" && !strings.HasPrefix(words[0], "stripe=") {
		d.Files, words = []string{words[0]}, words[1:]
	}
	for _, w := range words {
		key, value, has := strings.Cut(w, "=")
		switch {
		case key == "ro" && !has:
			d.ReadOnly = true
		case key == "dvd" && !has:
			d.DVD, d.ReadOnly = true, true
		case key == "front" && (value == FrontVirtioSCSI || value == FrontStorVSC):
			d.Front = value
		case key == "bs" && value == "512":
		case key == "bs" && value == "4096":
			d.BlockSize = 4096
		case key == "stripe" && value != "":
			d.Files = append(d.Files, strings.Split(value, "+")...)
		case key == "chunk":
			n, err := parseSize(value, 0)
			if err != nil || n < minChunk || n > maxChunk || bits.OnesCount64(n) != 1 {
				return bad("chunk %q is no power of two from 4K to 16M", value)
			}
			d.Chunk = int(n)
		default:
			return bad("%q is unknown", w)
		}
	}
	switch {
	case len(d.Files) == 0 || slices.Contains(d.Files, ""):
		return bad("a file has no name")
	case len(d.Files) > maxStripe:
		return bad("a stripe of %d files, at most %d work", len(d.Files), maxStripe)
	case len(d.Files) == 1 && d.Chunk != 0:
		return bad("a chunk without a stripe")
	case len(d.Files) > 1 && d.DVD:
		return bad("a DVD cannot be a stripe")
	case d.DVD && d.BlockSize != 512:
		return bad("a DVD has blocks of its own")
	case len(d.Files) > 1 && d.Chunk == 0:
		d.Chunk = defaultChunk
	}
	return d, nil
}

// splitCommas cuts a text at its single commas.
func splitCommas(s string) []string {
	const pair = "\x00" // in no file name
	words := strings.Split(strings.ReplaceAll(s, ",,", pair), ",")
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], pair, ",")
	}
	return words
}

// NameDisks checks the files of those disks that have no names yet, gives each
// file the serial number of its controller, which stays the same from run to run,
// and each disk the lowest logical unit number that is free.
func NameDisks(disks []Disk) error {
	type unit struct {
		front string
		lun   int
	}
	var open []opened
	units, serials := map[unit]bool{}, map[string]bool{}
	for _, d := range disks {
		if len(d.Serials) == 0 {
			continue
		}
		if !d.Hidden {
			units[unit{d.Front, d.LUN}] = true
		}
		for i, file := range d.Files {
			serials[d.Serials[i]] = true
			if info, err := os.Stat(file); err == nil {
				open = append(open, opened{path: file, info: info, readOnly: d.ReadOnly})
			}
		}
	}
	for i := range disks {
		d := &disks[i]
		if len(d.Serials) > 0 {
			continue
		}
		files, err := d.inspect()
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := f.collides(open); err != nil {
				return err
			}
			open = append(open, f)
			serial := serialOf(f.path)
			for n := 1; serials[serial]; n++ { // a file that is read twice
				serial = serialOf(fmt.Sprintf("%s#%d", f.path, n))
			}
			serials[serial] = true
			d.Serials = append(d.Serials, serial)
		}
		if d.Hidden {
			continue
		}
		for d.LUN = 0; units[unit{d.Front, d.LUN}]; d.LUN++ {
			continue
		}
		units[unit{d.Front, d.LUN}] = true
	}
	if len(serials) > MaxDisks {
		return badDisk(nil, fmt.Sprintf("use at most %d", MaxDisks), "%d disk files are too many", len(serials))
	}
	return nil
}

// inspect looks at the files of a disk, which all have one size.
func (d *Disk) inspect() ([]opened, error) {
	var files []opened
	for _, name := range d.Files {
		f, err := inspect(d, name)
		if err != nil {
			return nil, err
		}
		if len(files) > 0 && f.size != files[0].size {
			return nil, badDisk(nil, "use files of one size", "the stripe of %s has files of %d and of %d bytes", d.Files[0], files[0].size, f.size)
		}
		files = append(files, f)
	}
	return files, nil
}

// serialOf derives a serial number of 20 characters from a name.
func serialOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "KEEL" + hex.EncodeToString(sum[:8])
}

// opened is what inspect has seen of a file.
type opened struct {
	path     string // absolute
	info     fs.FileInfo
	size     int64
	readOnly bool
}

// inspect looks at one file of a disk.
func inspect(d *Disk, name string) (opened, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return opened{}, badDisk(err, "name a file that exists", "%s", name)
	}
	mode := os.O_RDWR
	if d.ReadOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		remedy := "name a file that exists"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "make it writable, or add ,ro"
		}
		return opened{}, badDisk(err, remedy, "cannot open the disk")
	}
	defer f.Close()
	o := opened{path: path, readOnly: d.ReadOnly}
	if o.info, err = f.Stat(); err != nil {
		return o, badDisk(err, "use an image file or a block device", "cannot open the disk")
	}
	if m := o.info.Mode(); !m.IsRegular() && (m&fs.ModeDevice == 0 || m&fs.ModeCharDevice != 0) {
		return o, badDisk(nil, "use an image file or a block device", "%s is neither", name)
	}
	if o.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return o, badDisk(err, "use an image file or a block device", "cannot open the disk")
	}
	least, unit := int64(minDisk), int64(d.BlockSize)
	if d.DVD {
		least, unit = minDisc, discSector
	}
	if d.Chunk != 0 {
		unit = max(unit, int64(d.Chunk))
	}
	switch {
	case o.size < least:
		return o, badDisk(nil, fmt.Sprintf("make it at least %d bytes long", least), "%s has %d bytes, which is too small", name, o.size)
	case o.size%unit != 0:
		return o, badDisk(nil, fmt.Sprintf("make it a multiple of %d", unit), "%s has %d bytes, which is no whole number of blocks", name, o.size)
	}
	return o, unlocked(f, name, d.ReadOnly)
}

// Bytes that QEMU locks in an image that it has open (block/file-posix.c): from
// permBase on what it does itself, from sharedBase on what it lets nobody do.
const (
	permBase   = 100
	sharedBase = 200
	permWrite  = 1
)

// unlocked checks that no other process uses the file in a way that does not go
// together. QEMU looks again, with the same locks, when it opens the file.
func unlocked(f *os.File, name string, readOnly bool) error {
	conflict := func(start int64) bool {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 1}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l)
		return err == nil && l.Type != unix.F_UNLCK
	}
	// Who writes it, and who lets nobody write it.
	if conflict(permBase+permWrite) || !readOnly && conflict(sharedBase+permWrite) {
		return badDisk(nil, "end what uses it", "%s is locked by another process", name)
	}
	return nil
}

// collides refuses a file that two disks have, one of them for writing.
func (o opened) collides(others []opened) error {
	for _, other := range others {
		if os.SameFile(o.info, other.info) && (!o.readOnly || !other.readOnly) {
			return badDisk(nil, "use it once, or add ,ro to both", "%s is the file of two disks", o.path)
		}
	}
	return nil
}

func badDisk(err error, remedy, format string, args ...any) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadDisk, Cause: fmt.Sprintf(format, args...), Remedy: remedy, Err: err}
}
