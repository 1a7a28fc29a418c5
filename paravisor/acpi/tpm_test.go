package acpi

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keel/hcl/abi/x86"
)

// withTPM is the machine with a TPM.
func withTPM(crb bool) Machine {
	m := machine()
	m.TPM = &TPM{
		CRB: crb, Registers: Window{0xfed4_0000, 0x5000}, Log: Window{0xd_0000, 0x1_0000}, PPI: 0xfed4_5000,
	}
	return m
}

// The expected bytes are written out from TCG ACPI 1.2 table 7.
func TestTPM2(t *testing.T) {
	for _, c := range []struct {
		name string
		crb  bool
		want []byte
	}{
		{"CRB", true, []byte{
			0, 0, 0, 0, // client, reserved
			0x40, 0x00, 0xd4, 0xfe, 0, 0, 0, 0, // control area
			7, 0, 0, 0, // start method
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // its parameters
			0x00, 0x00, 0x01, 0x00, // length of the log area
			0x00, 0x00, 0x0d, 0x00, 0, 0, 0, 0, // its address
		}},
		{"FIFO", false, []byte{
			0, 0, 0, 0,
			0, 0, 0, 0, 0, 0, 0, 0,
			6, 0, 0, 0,
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
			0x00, 0x00, 0x01, 0x00,
			0x00, 0x00, 0x0d, 0x00, 0, 0, 0, 0,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := find(t, build(t, withTPM(c.crb)), "TPM2")
			if len(table) != 76 || table[8] != 4 || !bytes.Equal(table[36:], c.want) {
				t.Errorf("revision %d, %d bytes\ngot  %x\nwant %x", table[8], len(table), table[36:], c.want)
			}
		})
	}
}

func TestTPMThroughIASL(t *testing.T) {
	for _, crb := range []bool{true, false} {
		tables := build(t, withTPM(crb))
		for _, signature := range []string{"TPM2", "DSDT", "XSDT"} {
			table := find(t, tables, signature)
			source, again := roundTrip(t, table)
			if !bytes.Equal(table[headerSize:], again[headerSize:]) {
				t.Errorf("%s: the compiler reads it as\n%x, not\n%x\n%s", signature, again, table, source)
			}
			if signature != "DSDT" {
				continue
			}
			source = strings.Join(strings.Fields(source), " ")
			for _, want := range []string{
				"Device (TPM)", `Name (_HID, "MSFT0101"`, "Name (_STA, 0x0F)",
				"Memory32Fixed (ReadWrite, 0xFED40000, // Address Base 0x00005000, // Address Length",
				"OperationRegion (PPIM, SystemMemory, 0xFED45000, 0x0400)", "Method (_DSM, 4, Serialized)",
				"Offset (0x105), PRSP, 32, PREQ, 32, PPRM, 32, PLST, 32, Offset (0x15A), MOVV, 8",
				`ToUUID ("3dddfaa6-361b-4eb4-a424-8d10089d1653")`, `ToUUID ("376054ed-cc13-4675-901c-4756d7f2d45d")`,
			} {
				if !strings.Contains(source, want) {
					t.Errorf("the DSDT lacks %s", want)
				}
			}
			if t.Failed() {
				t.Log(source)
			}
		}
	}
}

// Without a TPM nothing tells of one.
func TestNoTPM(t *testing.T) {
	tables := build(t, machine())
	for _, b := range tables.Blobs {
		if bytes.Contains(b.Data, []byte("MSFT0101")) || bytes.HasPrefix(b.Data, []byte("TPM2")) {
			t.Errorf("the table at %#x has a TPM", b.GPA)
		}
	}
	m := withTPM(true)
	m.TPM.PPI = 0
	if bytes.Contains(find(t, build(t, m), "DSDT"), []byte("_DSM")) {
		t.Error("without memory for it there is a physical presence interface")
	}
}

func TestTPMRefused(t *testing.T) {
	for name, spoil := range map[string]func(*TPM){
		"no registers":   func(p *TPM) { p.Registers.Size = 0 },
		"registers high": func(p *TPM) { p.Registers.Base = 1<<32 - 0x1000 },
		"long log":       func(p *TPM) { p.Log.Size = 1 << 32 },
		"PPI high":       func(p *TPM) { p.PPI = x86.GPA(1<<32 - 0x3ff) },
	} {
		m := withTPM(true)
		spoil(m.TPM)
		if _, err := Build(m); !errors.Is(err, ErrBuild) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Intel's interpreter runs the methods as an operating system would, one after the other.
// It begins with memory that is full of one value, which is therefore the firmware's word
// on each operation too (PPI 1.30 §2.1.8), and keeps what is written.
func TestPhysicalPresence(t *testing.T) {
	if _, err := exec.LookPath("acpiexec"); err != nil {
		t.Fatal("acpiexec is missing: apt-get install acpica-tools")
	}
	const (
		presence = "(A6 FA DD 3D 1B 36 B4 4E A4 24 8D 10 08 9D 16 53)"
		clearing = "(ED 54 60 37 13 CC 75 46 90 1C 47 56 D7 F2 D4 5D)"
		unknown  = "(ED 54 60 37 13 CC 75 46 90 1C 47 56 D7 F2 D4 5E)"
	)
	table := filepath.Join(t.TempDir(), "dsdt.aml")
	if err := os.WriteFile(table, find(t, build(t, withTPM(true)), "DSDT"), 0o600); err != nil {
		t.Fatal(err)
	}
	number := func(v string) string { return "[Integer] = " + strings.Repeat("0", 16-len(v)) + v }
	list := func(vs ...string) []string {
		w := []string{fmt.Sprintf("Contains %d Elements", len(vs))}
		for _, v := range vs {
			w = append(w, number(v))
		}
		return w
	}
	one := func(v string) []string { return []string{number(v)} }
	type call struct {
		name string
		call string   // UUID, revision, function, arguments; numbers in decimal
		want []string // in this order; numbers in hexadecimal
	}
	for _, c := range []struct {
		name, fill string
		calls      []call
	}{
		{"the OS asks", "4", []call{
			{"functions", presence + " 1 0 []", []string{"Length 02 =", "FF 01"}},
			{"version", presence + " 1 1 []", []string{`"1.3"`}},
			{"result", presence + " 1 5 []", list("0", "4040404", "4040404")},
			{"with a parameter", presence + " 2 7 [23 9]", one("0")},
			{"it is pending", presence + " 2 3 []", list("0", "17", "9")},
			{"the parameter left out", presence + " 1 7 [14]", one("0")},
			{"it is pending", presence + " 2 3 []", list("0", "E", "0")},
			{"function 2 has no parameter", presence + " 1 2 [5]", one("0")},
			{"it is pending", presence + " 2 3 []", list("0", "5", "0")},
			{"revision 1 knows no parameter", presence + " 1 3 []", list("0", "5")},
		}},
		{"the OS looks around", "4", []call{
			{"submit", presence + " 1 2 [5]", one("0")},
			{"out of range", presence + " 1 2 [256]", one("1")},
			{"out of range", presence + " 2 7 [256 0]", one("1")},
			{"far out of range", presence + " 1 8 [4294967295]", one("0")},
			{"nothing has changed", presence + " 2 3 []", list("0", "5", "0")},
			{"a reboot carries it out", presence + " 1 4 []", one("2")},
			{"language", presence + ` 1 6 ["en"]`, one("3")},
			{"no confirmation needed", presence + " 1 8 [5]", one("4")},
			{"no function 9", presence + " 1 9 []", []string{"Length 01 =", "0000: 00"}},
			{"memory clear functions", clearing + " 1 0 []", []string{"Length 01 =", "0000: 03"}},
			{"memory clear", clearing + " 1 1 [1]", one("0")},
			{"another UUID", unknown + " 1 0 []", []string{"Length 01 =", "0000: 00"}},
		}},
		{"there is no such operation", "0", []call{
			{"function 2", presence + " 1 2 [24]", one("1")},
			{"function 7", presence + " 1 7 [24 0]", one("1")},
			{"nothing is pending", presence + " 2 3 []", list("0", "0", "0")},
			{"function 8", presence + " 1 8 [24]", one("0")},
		}},
		{"blocked by the firmware", "2", []call{
			{"function 2", presence + " 1 2 [5]", one("2")},
			{"function 7", presence + " 1 7 [5 0]", one("3")},
			{"function 8", presence + " 1 8 [5]", one("2")},
			{"nothing has changed", presence + " 1 3 []", list("0", "2020202")},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fill, calls := c.fill, c.calls
			var batch []string
			for _, c := range calls {
				batch = append(batch, `evaluate \_SB.TPM._DSM `+c.call)
			}
			out, err := exec.CommandContext(t.Context(), "acpiexec", "-fv", fill, "-b", strings.Join(batch, ";"), table).CombinedOutput()
			parts := strings.Split(string(out), "Evaluating ")[1:]
			if err != nil || len(parts) != len(calls) {
				t.Fatalf("%d of %d evaluations: %v\n%s", len(parts), len(calls), err, out)
			}
			for i, c := range calls {
				rest := parts[i]
				for _, want := range c.want {
					_, after, ok := strings.Cut(rest, want)
					if !ok {
						t.Errorf("%s: lacks %q\n%s", c.name, want, parts[i])
						break
					}
					rest = after
				}
			}
		})
	}
}
