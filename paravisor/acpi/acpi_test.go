package acpi

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"keel/hcl/abi/x86"
)

// machine is like the one that the paravisor describes.
func machine() Machine {
	return Machine{
		APICIDs:     []x86.APICID{0, 1, 2, 3},
		LocalAPIC:   0xfee0_0000,
		IOAPIC:      0xfec0_0000,
		IOAPICID:    4,
		Overrides:   []Override{{IRQ: 0, GSI: 2}, {IRQ: 9, GSI: 9, Level: true}},
		SCI:         9,
		PM1Event:    0x600,
		PM1Control:  0x604,
		PMTimer:     0x608,
		GPE0:        0x620,
		GPE0Size:    4,
		SleepTypeS5: 5,
		ResetPort:   0xcf9,
		ResetValue:  6,
		Century:     0x32,
		ECAM:        Window{0xe000_0000, 256 << 20},
		PCIPorts:    Window{0xc000, 0x1000},
		PCILow:      Window{0xc000_0000, 512 << 20},
		PCIHigh:     Window{0x80_0000_0000, 64 << 30},
		UARTs:       []UART{{0x3f8, 4}, {0x2f8, 3}},
		VMBus:       Window{0xf8000000, 64 << 20},
		Reclaim:     Window{0xe0000, 0xf000},
		FACSAddr:    0xef000,
	}
}

// find returns the table with the signature, found as a guest does: from the
// root pointer, each pointer read from memory, each checksum checked.
func find(t *testing.T, tables Tables, signature string) []byte {
	t.Helper()
	root := at(t, tables, tables.RSDP)
	if string(root[:8]) != "RSD PTR " || root[15] != 2 {
		t.Fatalf("no root pointer: %x", root)
	}
	wantSum(t, "RSDP, first 20 bytes", root[:20])
	wantSum(t, "RSDP", root[:36])
	list := at(t, tables, x86.GPA(le.Uint64(root[24:])))
	wantSum(t, "XSDT", list)
	all := map[string][]byte{"XSDT": list}
	for p := list[36:]; len(p) > 0; p = p[8:] {
		table := at(t, tables, x86.GPA(le.Uint64(p)))
		all[string(table[:4])] = table
		if string(table[:4]) == "FACP" {
			all["DSDT"] = at(t, tables, x86.GPA(le.Uint64(table[140:])))
			all["FACS"] = at(t, tables, x86.GPA(le.Uint32(table[36:])))
		}
	}
	table, ok := all[signature]
	if !ok {
		t.Fatalf("no %s", signature)
	}
	if got := le.Uint32(table[4:]); int(got) != len(table) {
		t.Fatalf("%s says %d bytes and has %d", signature, got, len(table))
	}
	if signature != "FACS" {
		wantSum(t, signature, table)
	}
	return table
}

func at(t *testing.T, tables Tables, gpa x86.GPA) []byte {
	t.Helper()
	for _, b := range tables.Blobs {
		if b.GPA == gpa {
			return b.Data
		}
	}
	t.Fatalf("nothing at %#x", gpa)
	return nil
}

func wantSum(t *testing.T, name string, b []byte) {
	t.Helper()
	var sum byte
	for _, c := range b {
		sum += c
	}
	if sum != 0 {
		t.Errorf("%s sums to %#x", name, sum)
	}
}

func build(t *testing.T, m Machine) Tables {
	t.Helper()
	tables, err := Build(m)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestBlobsStayInPlace(t *testing.T) {
	m := machine()
	m.APICIDs = make([]x86.APICID, 16)
	tables := build(t, m)
	slices.SortFunc(tables.Blobs, func(a, b Blob) int { return int(a.GPA) - int(b.GPA) })
	end := m.Reclaim.Base
	for _, b := range tables.Blobs {
		if b.GPA < end {
			t.Errorf("the table at %#x begins before %#x", b.GPA, end)
		}
		end = b.GPA + x86.GPA(len(b.Data))
		if b.GPA != m.FACSAddr && end > m.Reclaim.Base+x86.GPA(m.Reclaim.Size) {
			t.Errorf("the table at %#x ends at %#x", b.GPA, end)
		}
	}
	if tables.RSDP%16 != 0 {
		t.Errorf("RSDP at %#x", tables.RSDP)
	}
}

// Offsets and numbers are those of ACPI 6.5 table 5.9.
func TestFADT(t *testing.T) {
	f := find(t, build(t, machine()), "FACP")
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"length", uint64(len(f)), 276},
		{"revision", uint64(f[8]), 6},
		{"SCI_INT", uint64(le.Uint16(f[46:])), 9},
		{"SMI_CMD", uint64(le.Uint32(f[48:])), 0},
		{"PM1a_EVT_BLK", uint64(le.Uint32(f[56:])), 0x600},
		{"PM1a_CNT_BLK", uint64(le.Uint32(f[64:])), 0x604},
		{"PM_TMR_BLK", uint64(le.Uint32(f[76:])), 0x608},
		{"GPE0_BLK", uint64(le.Uint32(f[80:])), 0x620},
		{"lengths", uint64(le.Uint32(f[88:])), 0x04_00_02_04},
		{"GPE0_BLK_LEN", uint64(f[92]), 4},
		{"P_LVL2_LAT", uint64(le.Uint16(f[96:])), 0xfff},
		{"P_LVL3_LAT", uint64(le.Uint16(f[98:])), 0xfff},
		{"CENTURY", uint64(f[108]), 0x32},
		{"IAPC_BOOT_ARCH", uint64(le.Uint16(f[109:])), 0x15},
		{"Flags", uint64(le.Uint32(f[112:])), 0x565},
		{"RESET_REG", le.Uint64(f[116:]), 0xcf9_01_00_08_01},
		{"RESET_VALUE", uint64(f[128]), 6},
		{"X_DSDT", le.Uint64(f[140:]), uint64(le.Uint32(f[40:]))},
		{"X_PM1a_EVT_BLK", le.Uint64(f[148:]), 0x600_00_00_20_01},
		{"X_PM1a_CNT_BLK", le.Uint64(f[172:]), 0x604_00_00_10_01},
		{"X_PM_TMR_BLK", le.Uint64(f[208:]), 0x608_00_00_20_01},
		{"X_GPE0_BLK", le.Uint64(f[220:]), 0x620_00_00_20_01},
	} {
		if c.got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, c.got, c.want)
		}
	}
	if facs := find(t, build(t, machine()), "FACS"); facs[32] != 2 || len(facs) != 64 {
		t.Errorf("FACS %x", facs)
	}

	m := machine()
	m.Keyboard, m.GPE0Size = true, 0
	f = find(t, build(t, m), "FACP")
	if arch := le.Uint16(f[109:]); arch != 0x17 {
		t.Errorf("with a keyboard IAPC_BOOT_ARCH = %#x", arch)
	}
	if !bytes.Equal(f[220:232], make([]byte, 12)) || le.Uint32(f[80:]) != 0 {
		t.Error("without GPEs there is a GPE block")
	}
}

// The expected bytes are written out from ACPI 6.5 §5.2.12.
func TestMADT(t *testing.T) {
	tables := build(t, machine())
	want := []byte{
		0x00, 0x00, 0xe0, 0xfe, 1, 0, 0, 0, // local APICs at fee00000h, 8259s present
		0, 8, 0, 0, 1, 0, 0, 0,
		0, 8, 1, 1, 1, 0, 0, 0,
		0, 8, 2, 2, 1, 0, 0, 0,
		0, 8, 3, 3, 1, 0, 0, 0,
		1, 12, 4, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0,
		2, 10, 0, 0, 2, 0, 0, 0, 0x00, 0,
		2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0,
		4, 6, 0xff, 0, 0, 1,
	}
	if got := find(t, tables, "APIC")[36:]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}

	m := machine()
	m.APICIDs = []x86.APICID{254, 255, 0x1_0000}
	m.Overrides = nil
	want = []byte{
		0x00, 0x00, 0xe0, 0xfe, 1, 0, 0, 0,
		0, 8, 0, 254, 1, 0, 0, 0,
		9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
		9, 16, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0,
		1, 12, 4, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0,
		4, 6, 0xff, 0, 0, 1,
		10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0,
	}
	if got := find(t, build(t, m), "APIC")[36:]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestMCFG(t *testing.T) {
	want := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0}
	if got := find(t, build(t, machine()), "MCFG")[36:]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Machine){
		"no VP":             func(m *Machine) { m.APICIDs = nil },
		"many VPs":          func(m *Machine) { m.APICIDs = make([]x86.APICID, 257) },
		"no ECAM":           func(m *Machine) { m.ECAM.Size = 0 },
		"part of a bus":     func(m *Machine) { m.ECAM.Size = 1 << 19 },
		"ECAM too high":     func(m *Machine) { m.ECAM.Base = 0xf800_0000 },
		"no PCI ports":      func(m *Machine) { m.PCIPorts.Size = 0 },
		"PCI ports too low": func(m *Machine) { m.PCIPorts.Base = 0xcf8 },
		"PCI ports wrap":    func(m *Machine) { m.PCIPorts.Base = 0xfff0 },
		"no PCI window":     func(m *Machine) { m.PCILow.Size = 0 },
		"window wraps":      func(m *Machine) { m.PCILow.Size = ^uint64(0) },
		"tables high":       func(m *Machine) { m.Reclaim.Base = 1 << 32 },
		"tables unaligned":  func(m *Machine) { m.Reclaim.Base = 0xe0010 },
		"no room":           func(m *Machine) { m.Reclaim.Size = 0x400 },
		"FACS unaligned":    func(m *Machine) { m.FACSAddr = 0xef020 },
		"IOAPIC high":       func(m *Machine) { m.IOAPIC = 1 << 32 },
		"local APIC high":   func(m *Machine) { m.LocalAPIC = 1 << 32 },
		"many UARTs":        func(m *Machine) { m.UARTs = make([]UART, 5) },
		"no such interrupt": func(m *Machine) { m.UARTs[0].IRQ = 16 },
	} {
		m := machine()
		spoil(&m)
		if _, err := Build(m); !errors.Is(err, ErrBuild) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
