package vfio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree is a sysfs that behaves as the kernel's when drivers are bound.
type tree struct {
	t      testing.TB
	root   string
	writes []string // attribute and text, in order
	refuse string   // an address that vfio-pci does not take
	late   bool     // the kernel completes functions a while after they are listed
}

// newTree makes a tree with the driver vfio-pci and no functions.
func newTree(tb testing.TB) (*tree, Machine) {
	tb.Helper()
	tr := &tree{t: tb, root: tb.TempDir()}
	tr.dir("bus/pci/devices")
	tr.dir("bus/pci/drivers/vfio-pci")
	tr.dir("bus/pci/drivers/nvme")
	return tr, Machine{Sysfs: tr.root, store: tr.store, settle: time.Nanosecond}
}

func (tr *tree) path(elements ...string) string {
	return filepath.Join(append([]string{tr.root}, elements...)...)
}

func (tr *tree) dir(path string) {
	if err := os.MkdirAll(tr.path(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) file(path, text string) {
	if err := os.WriteFile(tr.path(path), []byte(text), 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) link(target, path string) {
	_ = os.Remove(tr.path(path))
	if err := os.Symlink(target, tr.path(path)); err != nil {
		tr.t.Fatal(err)
	}
}

// add makes a function. driver is "" for none, group NoGroup for none.
func (tr *tree) add(address string, class uint32, driver string, group int) {
	dev := "bus/pci/devices/" + address
	tr.dir(dev)
	tr.file(dev+"/vendor", "0x1b36\n")
	tr.file(dev+"/device", "0x0010\n")
	tr.file(dev+"/class", fmt.Sprintf("%#06x\n", class))
	if driver != "" {
		tr.link("../../drivers/"+driver, dev+"/driver")
	}
	if group != NoGroup {
		g := fmt.Sprintf("kernel/iommu_groups/%d", group)
		tr.dir(g + "/devices")
		tr.link("../../../../bus/pci/devices/"+address, g+"/devices/"+address)
		tr.link("../../../../"+g, dev+"/iommu_group")
	}
}

// store is what the kernel does on a write.
func (tr *tree) store(path, text string) error {
	attribute, err := filepath.Rel(tr.root, path)
	if err != nil {
		return err
	}
	tr.writes = append(tr.writes, strings.TrimPrefix(attribute, "bus/pci/")+"="+text)
	dev := filepath.Join("bus/pci/devices", text)
	switch filepath.Base(path) {
	case "driver_override":
		tr.file(attribute, text)
	case "unbind":
		return os.Remove(tr.path(dev, "driver"))
	case "drivers_probe":
		override, err := os.ReadFile(tr.path(dev, "driver_override"))
		if err != nil {
			return err
		}
		bind := func() { tr.link("../../drivers/"+string(override), dev+"/driver") }
		switch {
		case text == tr.refuse:
		case tr.late:
			time.AfterFunc(20*time.Millisecond, bind)
		default:
			bind()
		}
	default:
		return errors.New("no such attribute")
	}
	return nil
}
