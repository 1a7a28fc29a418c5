package hcltest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Verdict starts the line that a test binary prints when it ran as PID 1. The
// exit status of the tests follows it.
const Verdict = "KEEL-CONTRACT exit status "

// Main runs a backend's tests. As PID 1, the only process of a VM, it prepares
// the file systems first, prints the verdict and powers the VM off: the test
// binary itself is /init, because backends work only in a VTL2.
func Main(m *testing.M) {
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	for _, f := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(f.at, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		if err := unix.Mount(f.kind, f.at, f.kind, 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, f.at, err)
		}
	}
	fmt.Fprintf(os.Stderr, "%s%d\n", Verdict, m.Run())
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // PID 1 must not end
}
