package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"keel/initramfs"
)

// Initrd returns an initrd whose /init is the guest test program. root is the
// folder of the keel module.
func Initrd(ctx context.Context, root string) ([]byte, error) {
	work, err := os.MkdirTemp("", "keel-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "init")
	if err := initramfs.CompileTest(ctx, root, "keel/tests/guest", binary); err != nil {
		return nil, err
	}
	return initramfs.ProgramInitrd(binary)
}

// Cmdline returns the kernel parameters that make the program run the checks on a
// guest with that many CPUs. The HPET, where a machine has one, would take the PIT's
// interrupt away from the check "nmi".
func Cmdline(cpus int, checks ...string) string {
	return fmt.Sprintf("console=ttyS0 quiet panic=-1 iomem=relaxed hpet=disable %s=%d %s=%s",
		paramVPs, cpus, paramTest, strings.Join(checks, ","))
}
