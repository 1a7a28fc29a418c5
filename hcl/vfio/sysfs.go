package vfio

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// NoGroup is the Group of a function that no IOMMU stands before.
const NoGroup = -1

// maxFunctions bounds what Find lists.
const maxFunctions = 1 << 12

// Machine is where the kernel shows its devices. The zero value is the machine
// itself.
type Machine struct {
	Sysfs string // "" for /sys
	Dev   string // "" for /dev

	// store replaces writes to sysfs, for tests.
	store func(path, text string) error
	// settle replaces settleTime, for tests.
	settle time.Duration
}

// Candidate is a PCI function as the bus lists it. All but Address and Driver is
// the host's word.
type Candidate struct {
	Address        string // as 0000:00:03.0: domain, bus, device, function
	Vendor, Device uint16
	Class          uint32 // base class, subclass, interface: 24 bits
	Driver         string // that has it now, "" for none
	Group          int    // of the IOMMU, or NoGroup
	// Instance tells functions apart that are plugged in at one address, one after
	// the other: the number of the kernel's node.
	Instance uint64
}

// Find lists the PCI functions whose class equals class in the bits of mask,
// ascending by address. The error wraps ErrFind.
func Find(class, mask uint32) ([]Candidate, error) { return Machine{}.Find(class, mask) }

// Find is the function of the same name, on another tree.
func (m Machine) Find(class, mask uint32) ([]Candidate, error) {
	entries, err := os.ReadDir(m.sysfs("bus/pci/devices"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFind, err)
	}
	var found []Candidate
	for _, e := range entries {
		c, err := m.candidate(e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrAddress) {
			continue // it went away meanwhile, or lies in a domain beyond the 16 bits of PCI's
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFind, err)
		}
		if c.Class&mask != class&mask {
			continue
		}
		if len(found) == maxFunctions {
			return nil, fmt.Errorf("%w: there are more than %d", ErrFind, maxFunctions)
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b Candidate) int { return cmp.Compare(a.Address, b.Address) })
	return found, nil
}

// candidate reads what sysfs says of a function.
func (m Machine) candidate(address string) (Candidate, error) {
	c := Candidate{Address: address, Group: NoGroup}
	if err := checkAddress(address); err != nil {
		return c, err
	}
	for _, a := range []struct {
		name  string
		bits  int
		value func(v uint64)
	}{
		{"vendor", 16, func(v uint64) { c.Vendor = uint16(v) }},
		{"device", 16, func(v uint64) { c.Device = uint16(v) }},
		{"class", 24, func(v uint64) { c.Class = uint32(v) }},
	} {
		v, err := readHex(m.function(address, a.name), a.bits)
		if err != nil {
			return c, err
		}
		a.value(v)
	}
	var err error
	if c.Driver, err = linkName(m.function(address, "driver")); err != nil {
		return c, err
	}
	if c.Group, err = m.groupOf(address); err != nil {
		return c, err
	}
	var node unix.Stat_t
	// The entry is a link to the function's folder.
	if err := unix.Stat(m.sysfs("bus/pci/devices/"+address), &node); err != nil {
		return c, err
	}
	c.Instance = node.Ino
	return c, nil
}

// groupOf returns the number of a function's IOMMU group, or NoGroup.
func (m Machine) groupOf(address string) (int, error) {
	name, err := linkName(m.function(address, "iommu_group"))
	if err != nil || name == "" {
		return NoGroup, err
	}
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return NoGroup, fmt.Errorf("IOMMU group of %s: %w", address, err)
	}
	return int(n), nil
}

// checkAddress tells whether an address is of the form 0000:00:03.0. What passes is
// a plain file name.
func checkAddress(address string) error {
	const form = "hhhh:hh:hh.o" // hexadecimal and octal digits
	if len(address) != len(form) {
		return fmt.Errorf("%w: %q", ErrAddress, address)
	}
	for i := range len(form) {
		c, digits := address[i], string(form[i])
		switch form[i] {
		case 'h':
			digits = "0123456789abcdef"
		case 'o':
			digits = "01234567"
		}
		if strings.IndexByte(digits, c) < 0 {
			return fmt.Errorf("%w: %q", ErrAddress, address)
		}
	}
	return nil
}

// readHex reads an attribute such as "0x1b36".
func readHex(path string, bits int) (uint64, error) {
	text, err := readShort(path)
	if err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		return 0, fmt.Errorf("%s: %q is not a hexadecimal number", path, text)
	}
	v, err := strconv.ParseUint(digits, 16, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// readShort reads an attribute of at most one line.
func readShort(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const longest = 128
	text, err := io.ReadAll(io.LimitReader(f, longest))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// linkName returns the last element of a link's target, "" when there is no link.
func linkName(path string) (string, error) {
	target, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Base(target), nil
}

// sysfs returns a path in the tree of the kernel's objects.
func (m Machine) sysfs(path string) string {
	return filepath.Join(cmp.Or(m.Sysfs, "/sys"), path)
}

// function returns the path of an attribute of a function.
func (m Machine) function(address, attribute string) string {
	return filepath.Join(m.sysfs("bus/pci/devices"), address, attribute)
}

// vfio returns the path of one of VFIO's device nodes.
func (m Machine) vfio(name string) string {
	return filepath.Join(cmp.Or(m.Dev, "/dev"), "vfio", name)
}

// write writes an attribute that exists.
func (m Machine) write(path, text string) error {
	if m.store != nil {
		return m.store(path, text)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
