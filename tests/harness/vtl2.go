package harness

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
)

// InVTL2 runs tests of a package in a VM like the one that Keel runs in, on
// Keel's kernel, where backends find what they are made for: the test binary is
// /init. root is the folder of the keel module, devices are further arguments for
// QEMU. The others of the package's tests need no such machine.
func InVTL2(t *testing.T, root, pkg string, devices, tests []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	kernel, err := kernelcfg.Build(ctx, kernelcfg.Release)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, initrd := filepath.Join(dir, "init"), filepath.Join(dir, "init.cpio")
	if err := initramfs.CompileTest(ctx, root, pkg, binary); err != nil {
		t.Fatal(err)
	}
	archive, err := initramfs.ProgramInitrd(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(initrd, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC-Rome,+svm", "-smp", "2", "-m", "512M",
		"-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet tsc=reliable no_timer_check panic=-1 -- -test.v -test.run=^(" + strings.Join(tests, "|") + ")$",
	}, devices...)
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wanted := []string{fmt.Sprintf("%s%d", hcltest.Verdict, 0)}
	for _, name := range tests {
		wanted = append(wanted, "--- PASS: "+name)
	}
	for _, want := range wanted {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the console:\n%s", want, out)
		}
	}
}
