package boot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keel/hcl/hcltest"
	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/harness"
)

// TestBackendContract runs the contract suite of package hcl in a VTL2, where the
// KVM backend works: the backend's test binary is /init.
func TestBackendContract(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	kernel, err := kernelcfg.Build(ctx, kernelcfg.Release)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, initrd := filepath.Join(dir, "init"), filepath.Join(dir, "init.cpio")
	if err := initramfs.CompileTest(ctx, root, "keel/hcl/kvm", binary); err != nil {
		t.Fatal(err)
	}
	archive, err := initramfs.ProgramInitrd(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(initrd, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC-Rome,+svm", "-smp", "2", "-m", "512M",
		"-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet tsc=reliable no_timer_check panic=-1 -- -test.v").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{fmt.Sprintf("%s%d", hcltest.Verdict, 0), "--- PASS: TestContract"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the console:\n%s", want, out)
		}
	}
}
