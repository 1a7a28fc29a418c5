package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
)

// refuse checks that a run ends as wanted, in one line that names the cause and a
// remedy, and before the guest runs an instruction.
func refuse(t *testing.T, want handoff.Outcome, cause string, flags ...string) {
	t.Helper()
	r := tool.Start(t, append([]string{"--mem", "128M", "--timeout", "60s"}, flags...)...)
	report := r.Wait(t, want)
	if s := r.Stderr(); !strings.Contains(s, cause) || !strings.Contains(s, "; ") {
		t.Errorf("stderr %q lacks %q or a remedy", s, cause)
	}
	if report.GuestEntryMS != nil || r.Console() != "" {
		t.Errorf("the guest ran: %q", r.Console())
	}
}

// file writes bytes to a file.
func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFlags gives the tool values that cannot be; tests/boot has more.
func TestFlags(t *testing.T) {
	good := program{code: tripleFault}
	kernel := good.write(t)
	for _, tt := range []struct {
		name  string
		flags []string
		want  handoff.Outcome
	}{
		{"VPs as a word", []string{"--vps", "abc"}, handoff.OutcomeUsage},
		{"VPs beyond numbers", []string{"--vps", "99999999999999999999"}, handoff.OutcomeUsage},
		{"memory beyond numbers", []string{"--mem", "99999999999999999999G"}, handoff.OutcomeUsage},
		{"name that ends QEMU's option", []string{"--name", "a,debug-threads=on"}, handoff.OutcomeUsage},
		{"long command line", []string{"--append", strings.Repeat("a", 4096)}, handoff.OutcomeBadConfig},
		{"command line of two lines", []string{"--append", "a\nb"}, handoff.OutcomeBadConfig},
		{"initrd beside too little memory", []string{"--mem", "64M", "--initrd", initrd(t, 60<<20)}, handoff.OutcomeTooLittleMemory},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tool.Start(t, append([]string{"--kernel", kernel}, tt.flags...)...)
			<-r.Ended // what cobra refuses writes no report
			if got := r.Cmd.ProcessState.ExitCode(); got != tt.want.ExitCode() {
				t.Errorf("exit status %d, want %d (%s)", got, tt.want.ExitCode(), tt.want)
			}
			if s := r.Stderr(); strings.Count(s, "\n") != 1 || !strings.HasPrefix(s, "keel: ") || !strings.Contains(s, "; ") {
				t.Errorf("stderr %q is not one line with a cause and a remedy", s)
			}
			r.CheckLeftovers(t)
		})
	}
}

// initrd makes an archive of one file of zeroes (cpio, newc: 13 numbers, the
// seventh the size of the file and the twelfth that of its name).
func initrd(t *testing.T, size int) string {
	t.Helper()
	var b bytes.Buffer
	member := func(name string, size int) {
		fields := [13]int{1: 0o100644, 4: 1, 6: size, 11: len(name) + 1}
		b.WriteString("070701")
		for _, f := range fields {
			fmt.Fprintf(&b, "%08X", f)
		}
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(make([]byte, (size+3)&^3))
	}
	member("zeroes", size)
	member("TRAILER!!!", 0)
	return file(t, "initrd", b.Bytes())
}

// TestImages damages the image.
func TestImages(t *testing.T) {
	t.Parallel()
	image, err := os.ReadFile(tool.Image)
	if err != nil {
		t.Fatal(err)
	}
	good := program{code: tripleFault}
	kernel := good.write(t)
	check := func(t *testing.T, damaged []byte, cause string) {
		t.Helper()
		refuse(t, handoff.OutcomeBadImage, cause, "--kernel", kernel, "--image", file(t, "keel.igvm", damaged))
	}
	t.Run("another architecture", func(t *testing.T) {
		// Fixed header of version 2: version at 4, architecture at 24 (IGVM, "IGVM_FIXED_HEADER").
		const archAArch64 = 1
		other := append([]byte(nil), image...)
		binary.LittleEndian.PutUint32(other[4:], 2)
		binary.LittleEndian.PutUint32(other[24:], archAArch64)
		check(t, other, "aarch64")
	})
	flips := 24
	if soak {
		flips = 1000
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range flips {
		at, bit := random.IntN(len(image)), random.IntN(8)
		image[at] ^= 1 << bit
		check(t, image, "image")
		if image[at] ^= 1 << bit; t.Failed() {
			t.Fatalf("bit %d of byte %#x", bit, at)
		}
	}
}
