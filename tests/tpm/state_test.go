package tpm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/paravisor/gueststate"
	"keel/tests/harness"
)

// disk is a state disk with its key, of one VM.
type disk struct{ file, name string }

// newDisk makes an empty state disk for a VM whose name nobody else has.
func newDisk(t *testing.T) disk {
	t.Helper()
	d := disk{
		file: filepath.Join(t.TempDir(), "tpm.state"),
		name: fmt.Sprintf("keel-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")),
	}
	empty(t, d.file, 2*gueststate.MinDisk)
	return d
}

// empty makes a file of zeroes.
func empty(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// flags add the disk to those of a run.
func (d disk) flags(flags []string) []string {
	return append(flags, "--tpm-state", d.file, "--name", d.name)
}

// read returns what the disk holds, write has the host exchange it.
func (d disk) read(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (d disk) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.WriteFile(d.file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// slots are where the disk has its two copies.
var slots = map[string]int64{"A": 0, "B": gueststate.MinDisk / 2}

// damage changes a byte within the content of a slot.
func (d disk) damage(t *testing.T, slot string) {
	t.Helper()
	const within = 1000 // behind the header
	f, err := os.OpenFile(d.file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, slots[slot]+within); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, slots[slot]+within); err != nil {
		t.Fatal(err)
	}
}

// older returns the slot that is not the one in use.
func (d disk) older(t *testing.T) string {
	t.Helper()
	f, err := gueststate.OpenFile(d.file, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := gueststate.Inspect(f, nil)
	if err != nil || s.Recovered {
		t.Fatalf("%+v, %v", s, err)
	}
	return map[string]string{"A": "B", "B": "A"}[s.Use]
}

// refused starts a run that must end because of its state, and leave that alone.
func (d disk) refused(t *testing.T, flags []string, want ...string) {
	t.Helper()
	before := d.read(t)
	r := tool.Start(t, flags...)
	r.Wait(t, handoff.OutcomeBadState)
	for _, w := range want {
		if !strings.Contains(r.Stderr(), w) {
			t.Errorf("no %q in %q", w, r.Stderr())
		}
	}
	if !bytes.Equal(before, d.read(t)) {
		t.Error("the state was changed")
	}
	if strings.Contains(r.Console(), "KEEL-GUEST") {
		t.Error("the guest was started")
	}
}

// TestState: what a guest has stored outlives power, and a state that is not what it
// should be starts no guest.
func TestState(t *testing.T) {
	t.Parallel()
	for _, m := range machines(tisOldFour) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			_, first := m.script(t, d.flags(m.flags(ScriptState, "boot=1")), "leave", "found", "identity", "pcrs")

			wrong := filepath.Join(t.TempDir(), "wrong.key")
			if err := os.WriteFile(wrong, []byte(strings.Repeat("42", gueststate.KeyBytes)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			flags := m.flags(ScriptState, "boot=2")
			d.refused(t, append(d.flags(flags), "--tpm-key", wrong), "key")
			other := disk{d.file, d.name + "-other"}
			other.refused(t, other.flags(flags), "VM")

			slot := d.older(t)
			d.damage(t, slot)
			r, second := m.script(t, d.flags(flags), "found", "identity", "pcrs")
			if want := "slot " + slot; !strings.Contains(r.Log(), "recovered") || !strings.Contains(r.Log(), want) {
				t.Errorf("the log does not say that %s was damaged", want)
			}
			for _, name := range []string{"ek", "owned"} {
				if len(first.Files[name]) == 0 || !bytes.Equal(first.Files[name], second.Files[name]) {
					t.Errorf("%s is %x, then %x", name, first.Files[name], second.Files[name])
				}
			}
			comparePCRs(t, first, second)

			d.damage(t, "A")
			d.damage(t, "B")
			d.refused(t, d.flags(flags), "neither slot", gueststate.ResetOption)
		})
	}
}

// pcrCommandLine is where the command line is measured (systemd's and GRUB's choice:
// UAPI Group, Linux TPM PCR Registry).
const pcrCommandLine = 12

// comparePCRs compares two boots whose command lines differ in one byte.
func comparePCRs(t *testing.T, first, second Said) {
	t.Helper()
	for _, bank := range []string{"sha256", "sha384"} {
		for n := range 16 {
			p := PCR{bank, n}
			if first.PCRs[p] == "" || second.PCRs[p] == "" {
				t.Errorf("%v is missing", p)
			}
			// IMA's is made of those of the firmware up to 9, which stay.
			if same := first.PCRs[p] == second.PCRs[p]; same != (n != pcrCommandLine) {
				t.Errorf("%v is %s, then %s", p, first.PCRs[p], second.PCRs[p])
			}
		}
	}
}

// TestKill ends QEMU while a guest writes: what the TPM has acknowledged is there at the
// next boot, and it is the same TPM.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, m := range machines(crbNewOne) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			kills := 2
			if harness.Soak() { // 100 in all; several VPs are slow
				kills = 22
				if m.VPs > 1 {
					kills = 3
				}
			}
			d := newDisk(t)
			acknowledged, ek := 0, []byte(nil)
			look := func(s Said, boot int) {
				t.Helper()
				// A write under way may have happened, and no other.
				if s.Found < acknowledged || s.Found > acknowledged+1 {
					t.Fatalf("boot %d found %d after %d was acknowledged", boot, s.Found, acknowledged)
				}
				if boot > 1 && !bytes.Equal(ek, s.Files["ek"]) || len(s.Files["ek"]) == 0 {
					t.Fatalf("boot %d has EK %x after %x", boot, s.Files["ek"], ek)
				}
				ek = s.Files["ek"]
			}
			for boot := 1; boot <= kills; boot++ {
				r := tool.Start(t, d.flags(m.flags(ScriptWrites))...)
				begun, enough := time.Time{}, rand.IntN(20)+1
				r.Until(t, "writes", func() bool {
					s := said(t, r)
					if begun.IsZero() && s.Ack > 0 {
						begun = time.Now()
					}
					return s.Ack > s.Found+enough && s.Found >= 0
				})
				if boot == 1 { // as its worker's end is survived, so is its replacement
					restart(t, r)
					before := said(t, r).Ack
					r.Until(t, "writes with a new worker", func() bool { return said(t, r).Ack > before+3 })
				}
				// And not only right behind an acknowledgement.
				time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond))))
				r.KillVM(t)
				r.Wait(t, handoff.OutcomeVMLost)
				s := said(t, r)
				look(s, boot)
				t.Logf("killed after %d, %.0f writes a second", s.Ack, float64(s.Ack-s.Found)/time.Since(begun).Seconds())
				acknowledged = s.Ack
			}
			_, s := m.script(t, d.flags(m.flags(ScriptWrites, "last=1")), "found", "identity")
			look(s, kills+1)
			t.Logf("the last boot found %d after %d", s.Found, acknowledged)
		})
	}
}

// restart replaces the worker of a VM's TPM, twice.
func restart(t *testing.T, r *harness.Run) {
	t.Helper()
	for range 2 {
		out, err := exec.CommandContext(t.Context(), tool.Path, "diag", "restart", r.Name, "tpm").CombinedOutput()
		if err != nil || string(out) != "tpm was restarted\n" {
			t.Errorf("keel diag restart: %v, %q", err, out)
		}
	}
}

// TestLUKS: a disk that was encrypted with systemd's tools opens by itself on the next
// boot, and not once PCR 11 says that the system has gone on.
func TestLUKS(t *testing.T) {
	t.Parallel()
	for _, m := range machines(crbNewOne) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			state, disk := newDisk(t), filepath.Join(t.TempDir(), "luks.img")
			empty(t, disk, 64<<20)
			for boot, checks := range [][]string{{"enroll", "unlock", "refuse"}, {"unlock", "refuse"}} {
				flags := append(m.flags(ScriptLUKS, fmt.Sprintf("boot=%d", boot+1)), "--disk", disk)
				m.script(t, state.flags(flags), checks...)
			}
		})
	}
}
