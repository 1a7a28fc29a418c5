package acpi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keel/hcl/abi/x86"
)

// iasl runs Intel's compiler in dir and returns what it says.
func iasl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("iasl"); err != nil {
		t.Fatal("iasl is missing: apt-get install acpica-tools")
	}
	cmd := exec.Command("iasl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("iasl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// roundTrip disassembles a table and compiles the result again. It returns the
// source and the new table.
func roundTrip(t *testing.T, table []byte) (source string, again []byte) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.dat"), table, 0o600); err != nil {
		t.Fatal(err)
	}
	wantClean(t, iasl(t, dir, "-d", "t.dat"))
	text, err := os.ReadFile(filepath.Join(dir, "t.dsl"))
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, string(text))
	// -oa: no optimization, so that the bytes can be compared. -vw 6033: the name that
	// Hyper-V gave its bus is shorter than the standard wants.
	out := iasl(t, dir, "-oa", "-vw", "6033", "-p", "again", "t.dsl")
	if !strings.Contains(out, "0 Errors, 0 Warnings") && !strings.Contains(out, "Table Input:") {
		t.Errorf("iasl complains:\n%s\n%s", out, text)
	}
	wantClean(t, out)
	again, err = os.ReadFile(filepath.Join(dir, "again.aml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), again
}

// wantClean looks for the complaints that iasl does not fail for.
func wantClean(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		// TCG's Memory Clear Interface, which this iasl does not list.
		if strings.Contains(line, `"376054ed-cc13-4675-901c-4756d7f2d45d") /* Unknown UUID */`) {
			continue
		}
		for _, word := range []string{"Warning  ", "Error  ", "Invalid", "nrecognized", "Unknown", "hould be", "ncorrect"} {
			if strings.Contains(line, word) {
				t.Errorf("iasl says: %s", line)
			}
		}
	}
}

// Each table survives a round trip through Intel's tools, for machines of
// every size.
func TestRoundTripThroughIASL(t *testing.T) {
	for _, vps := range []int{1, 4, 16} {
		m := machine()
		m.APICIDs = nil
		for i := range vps {
			m.APICIDs = append(m.APICIDs, x86.APICID(i*20))
		}
		tables := build(t, m)
		for _, signature := range []string{"DSDT", "FACP", "APIC", "MCFG", "FACS", "XSDT"} {
			t.Run(fmt.Sprintf("%s of %d VPs", signature, vps), func(t *testing.T) {
				table := find(t, tables, signature)
				source, again := roundTrip(t, table)
				// The compiler signs the header.
				body := headerSize
				if signature == "FACS" {
					body = 0
				}
				if !bytes.Equal(table[body:], again[body:]) {
					t.Errorf("the compiler reads it as\n%x, not\n%x\n%s", again, table, source)
				}
			})
		}
	}
}

// Intel's disassembler sees the devices that were meant.
func TestDSDTDevices(t *testing.T) {
	source, _ := roundTrip(t, find(t, build(t, machine()), "DSDT"))
	source = strings.Join(strings.Fields(source), " ")
	for _, want := range []string{
		`EisaId ("PNP0A08")`, `EisaId ("PNP0A03")`, `EisaId ("PNP0C02")`,
		`Device (COM1)`, `Device (COM2)`, `EisaId ("PNP0501")`, `EisaId ("PNP0B00")`,
		`Device (C003)`, `"ACPI0007"`, `Device (VMBS)`, `"VMBUS"`, `Method (_OSC, 4, Serialized)`,
		"IO (Decode16, 0x03F8, // Range Minimum 0x03F8, // Range Maximum 0x01, // Alignment 0x08, // Length ) IRQNoFlags () {4}",
		"IO (Decode16, 0x02F8, // Range Minimum 0x02F8, // Range Maximum 0x01, // Alignment 0x08, // Length ) IRQNoFlags () {3}",
		"WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0x0000, // Granularity 0x0000, // Range Minimum 0x00FF, // Range Maximum",
		"DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0x00000000, // Granularity 0xC0000000, // Range Minimum 0xDFFFFFFF, // Range Maximum",
		"QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0x0000000000000000, // Granularity 0x0000008000000000, // Range Minimum 0x0000008FFFFFFFFF, // Range Maximum",
		"Memory32Fixed (ReadWrite, 0xE0000000, // Address Base 0x10000000, // Address Length",
		`Name (\_S5, Package (0x04)`,
	} {
		if !strings.Contains(source, want) {
			t.Errorf("the DSDT lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(source)
	}
}
