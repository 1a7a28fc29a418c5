package vfio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/vfio"
	"keel/hcl/hcltest"
	"keel/hcl/pci/pcitest"
	"keel/hcl/sys"
)

// TestMain lets the test binary be the only process of a VM, whose assigned
// functions the tests below then need.
func TestMain(m *testing.M) {
	if alone() {
		// Without it tests have no folder of their own.
		if err := os.MkdirAll(os.TempDir(), 0o777); err != nil {
			panic(err)
		}
	}
	hcltest.Main(m)
}

// alone tells that the tests are the only process of a VM made for them.
func alone() bool { return os.Getpid() == 1 }

// Registers of NVMe controllers (NVM Express 1.4 §3.1), for something to look at.
const (
	nvmeCAP = 0x00 // 64 bits
	nvmeVS  = 0x08
	nvmeCC  = 0x14
	nvmeAQA = 0x24
	nvmeASQ = 0x28 // 64 bits
	nvmeACQ = 0x30 // 64 bits
	nvmeSTS = 0x1c
)

// realDomain makes a domain of the machine's own and finds its first NVMe
// controller. It skips where there is none and need be none.
func realDomain(t *testing.T) (*Domain, string) {
	t.Helper()
	d, err := NewDomain(Options{})
	var found []Candidate
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		found, err = Find(classNVMe, 0xffffff)
	}
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: no NVMe controller", hcl.ErrNotSupported)
	}
	if errors.Is(err, hcl.ErrNotSupported) && !alone() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d, found[0].Address
}

// trigger raises an MSI-X interrupt as if the function had (VFIO's loopback).
func trigger(t *testing.T, f *Function, vector int) {
	t.Helper()
	b := make([]byte, vfio.IRQSetData)
	binary.NativeEndian.PutUint32(b[vfio.InfoFlags:], vfio.IRQ_SET_ACTION_TRIGGER|vfio.IRQ_SET_DATA_NONE)
	binary.NativeEndian.PutUint32(b[vfio.IRQSetIndex:], vfio.PCI_MSIX_IRQ_INDEX)
	binary.NativeEndian.PutUint32(b[vfio.IRQSetStart:], uint32(vector))
	binary.NativeEndian.PutUint32(b[vfio.IRQSetCount:], 1)
	if _, err := sys.IoctlSized(int(f.device.(kernelDevice)), vfio.DEVICE_SET_IRQS, b); err != nil {
		t.Errorf("VFIO_DEVICE_SET_IRQS: %v", err)
	}
}

func TestHardwareContract(t *testing.T) {
	d, address := realDomain(t)
	pcitest.Run(t, func(t *testing.T) *pcitest.Function {
		t.Helper()
		f := mustOpen(t, d, address)
		return &pcitest.Function{Function: f, Signal: func(vector int) { trigger(t, f, vector) }}
	})
}

// TestHardwareDMA has a controller fetch a command from a buffer and answer into
// guest memory: an Identify, with its queues in buffers.
func TestHardwareDMA(t *testing.T) {
	d, address := realDomain(t)
	const guestAt = 4 << 30
	guest := memory(t, 2<<20)
	if err := d.MapGuest([]Region{{guestAt, guest}}); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, d, address)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	capabilities, version := r.Read64(nvmeCAP), r.Read32(nvmeVS)
	t.Logf("%+v in group %d: CAP %#x, VS %#x", f.ID(), f.Group(), capabilities, version)
	if capabilities == ones64 || capabilities == 0 || version>>16 == 0 {
		t.Fatal("these are no registers of an NVMe controller")
	}
	if len(r.(*registers).areas) == 0 {
		t.Error("no register is mapped")
	}
	submit, err := f.Allocate(pageSize)
	if err != nil {
		t.Fatal(err)
	}
	complete, err := f.Allocate(pageSize)
	if err != nil {
		t.Fatal(err)
	}
	interrupts, err := f.Interrupts(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Master(true); err != nil {
		t.Fatal(err)
	}
	r.Write32(nvmeAQA, 1<<16|1) // two entries each
	r.Write64(nvmeASQ, submit.DMA)
	r.Write64(nvmeACQ, complete.DMA)
	r.Write32(nvmeCC, 4<<20|6<<16|1) // entries of 16 and 64 bytes, enabled
	for deadline := time.Now().Add(30 * time.Second); r.Read32(nvmeSTS)&1 == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the controller does not get ready")
		}
		sys.Yield()
	}
	command := submit.Bytes[:64]
	command[0] = 6 // Identify
	binary.LittleEndian.PutUint64(command[24:], guestAt)
	command[40] = 1 // the controller
	r.Write32(0x1000, 1)
	if err := interrupts[0].Wait(); err != nil {
		t.Fatal(err)
	}
	if status := complete.Words[3] >> 17; status != 0 {
		t.Errorf("the command ended with status %#x", status)
	}
	if bytes.Equal(guest[:64], make([]byte, 64)) {
		t.Error("no data arrived in guest memory")
	}
	t.Logf("model %q", bytes.TrimSpace(guest[24:64]))
}

// TestHardwareReach asks for the addresses to which functions write their
// interrupts: no IOMMU maps memory there.
func TestHardwareReach(t *testing.T) {
	d, address := realDomain(t)
	if err := d.MapGuest([]Region{{0xfee00000, memory(t, pageSize)}}); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open(address, OpenOptions{})
	if !errors.Is(err, ErrReach) {
		t.Errorf("%v, want ErrReach", err)
	}
	t.Log(err)
}

// TestHardwareMemoryOff turns the decoding of memory off beneath mapped registers.
func TestHardwareMemoryOff(t *testing.T) {
	d, address := realDomain(t)
	f := mustOpen(t, d, address)
	r, err := f.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	if r.Read32(nvmeVS) == ones32 {
		t.Fatal("no version")
	}
	if err := f.command(0, commandMemory); err != nil {
		t.Fatal(err)
	}
	r.Write32(nvmeCC, 0)
	if v := r.Read32(nvmeVS); v != ones32 {
		t.Errorf("VS is %#x, want ones", v)
	}
	if s := f.Stats(); s.Faults != 2 {
		t.Errorf("%+v, want 2 faults", s)
	}
	if err := f.command(commandMemory, 0); err != nil {
		t.Fatal(err)
	}
	if r.Read32(nvmeVS) == ones32 {
		t.Error("the registers did not come back")
	}
}

// BenchmarkHardwareRegister measures a read that leaves the VM.
func BenchmarkHardwareRegister(b *testing.B) {
	found, err := Find(classNVMe, 0xffffff)
	if err != nil || len(found) == 0 {
		b.Skip("no NVMe controller", err)
	}
	d, err := NewDomain(Options{})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	r, err := mustOpen(b, d, found[0].Address).Registers(0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.Read32(nvmeVS)
	}
}
