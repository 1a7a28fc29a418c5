package boot

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
)

// damage returns a copy of a file after change.
func damage(t *testing.T, path string, change func([]byte) []byte) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(out, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func half(b []byte) []byte { return b[:len(b)/2] }
func empty([]byte) []byte  { return nil }
func noise([]byte) []byte  { return []byte(strings.Repeat("noise", 1000)) }

// flip changes one bit in the middle, in what headers do not show.
func flip(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

// armKernel makes an ELF header of another architecture (ELF, e_machine).
func armKernel([]byte) []byte {
	const machineAArch64 = 183
	header := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	binary.LittleEndian.PutUint16(header[16:], 2) // ET_EXEC
	binary.LittleEndian.PutUint16(header[18:], machineAArch64)
	return append(header, make([]byte, 4096)...)
}

// TestBadInput gives the tool what it must refuse: with one line that names cause
// and remedy, its own exit code, and before the guest runs an instruction.
func TestBadInput(t *testing.T) {
	t.Parallel()
	kernel := payload.kernels["6.1"]
	disk := func(name string, size int64) string {
		path := filepath.Join(t.TempDir(), name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	small, good, large := disk("small", 4096), disk("good", 1<<20), disk("large", 2<<20)
	tests := []struct {
		name  string
		flags []string
		want  handoff.Outcome
	}{
		{"kernel missing", []string{"--kernel", "/nonexistent"}, handoff.OutcomeBadKernel},
		{"kernel empty", []string{"--kernel", damage(t, kernel, empty)}, handoff.OutcomeBadKernel},
		{"kernel cut short", []string{"--kernel", damage(t, kernel, half)}, handoff.OutcomeBadKernel},
		{"kernel damaged", []string{"--kernel", damage(t, kernel, flip)}, handoff.OutcomeBadKernel},
		{"kernel is text", []string{"--kernel", damage(t, kernel, noise)}, handoff.OutcomeBadKernel},
		{"kernel of another architecture", []string{"--kernel", damage(t, kernel, armKernel)}, handoff.OutcomeBadKernel},
		{"kernel is a folder", []string{"--kernel", "/"}, handoff.OutcomeBadKernel},
		{"initrd missing", []string{"--initrd", "/nonexistent"}, handoff.OutcomeBadInitrd},
		{"initrd is text", []string{"--initrd", damage(t, payload.shell, noise)}, handoff.OutcomeBadInitrd},
		{"initrd cut short", []string{"--initrd", damage(t, payload.shell, half)}, handoff.OutcomeBadInitrd},
		{"image missing", []string{"--image", "/nonexistent"}, handoff.OutcomeBadImage},
		{"image empty", []string{"--image", damage(t, tool.Image, empty)}, handoff.OutcomeBadImage},
		{"image cut short", []string{"--image", damage(t, tool.Image, half)}, handoff.OutcomeBadImage},
		{"image damaged", []string{"--image", damage(t, tool.Image, flip)}, handoff.OutcomeBadImage},
		{"image is a kernel", []string{"--image", kernel}, handoff.OutcomeBadImage},
		{"unknown flag", []string{"--colour", "red"}, handoff.OutcomeUsage},
		{"argument", []string{"guest"}, handoff.OutcomeUsage},
		{"memory malformed", []string{"--mem", "lots"}, handoff.OutcomeUsage},
		{"timeout malformed", []string{"--timeout", "soon"}, handoff.OutcomeUsage},
		{"accelerator unknown", []string{"--accel", "warp"}, handoff.OutcomeUsage},
		{"log not writable", []string{"--log", "/nonexistent/log"}, handoff.OutcomeUsage},
		{"no VPs", []string{"--vps", "0"}, handoff.OutcomeBadVPCount},
		{"negative VPs", []string{"--vps", "-1"}, handoff.OutcomeBadVPCount},
		{"too many VPs", []string{"--vps", "17"}, handoff.OutcomeBadVPCount},
		{"too little memory", []string{"--mem", "1M"}, handoff.OutcomeTooLittleMemory},
		{"more memory than the host has", []string{"--mem", "64G"}, handoff.OutcomeTooLittleMemory},
		{"disk missing", []string{"--disk", "/nonexistent"}, handoff.OutcomeBadDisk},
		{"disk too small", []string{"--disk", small}, handoff.OutcomeBadDisk},
		{"disk misaligned", []string{"--disk", disk("odd", 1<<20+1)}, handoff.OutcomeBadDisk},
		{"disk misaligned for its blocks", []string{"--disk", disk("odd4k", 1<<20+512) + ",bs=4096"}, handoff.OutcomeBadDisk},
		{"disk twice", []string{"--disk", good, "--disk", good}, handoff.OutcomeBadDisk},
		{"stripe of unequal sizes", []string{"--disk", good + ",stripe=" + large}, handoff.OutcomeBadDisk},
		{"disk option unknown", []string{"--disk", good + ",cache=none"}, handoff.OutcomeUsage},
		{"front unknown", []string{"--disk", good + ",front=ide"}, handoff.OutcomeUsage},
		{"isolation unknown", []string{"--isolation", "vbs"}, handoff.OutcomeUsage},
		{"sealed by no TEE", []string{"--tpm-state", good, "--tpm-seal", "hardware"}, handoff.OutcomeUsage},
		{"no SVM or VMX for isolation", []string{"--isolation", "snp", "--qemu-arg", "-cpu", "--qemu-arg", "qemu64,-svm"}, handoff.OutcomeHostRefused},
		{"no such VM", []string{"--name", "nobody-has-this-name", "--disk-add", good}, handoff.OutcomeUsage},
		{"no QEMU", []string{"--qemu", "/nonexistent"}, handoff.OutcomeHostRefused},
		{"no SVM or VMX", []string{"--qemu-arg", "-cpu", "--qemu-arg", "qemu64,-svm"}, handoff.OutcomeHostRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Later flags win over these, which are good.
			r := tool.Start(t, append([]string{"--kernel", kernel, "--initrd", payload.shell, "--timeout", "60s"}, tt.flags...)...)
			<-r.Ended
			if got := r.Cmd.ProcessState.ExitCode(); got != tt.want.ExitCode() {
				t.Errorf("exit status %d, want %d (%s)", got, tt.want.ExitCode(), tt.want)
			}
			message := r.Stderr()
			if strings.Count(message, "\n") != 1 || !strings.HasPrefix(message, "keel: ") || !strings.Contains(message, ";") {
				t.Errorf("stderr %q is not one line with a cause and a remedy", message)
			}
			if out := r.Console(); out != "" {
				t.Errorf("the guest printed %q", out)
			}
			r.CheckLeftovers(t)
		})
	}
}
