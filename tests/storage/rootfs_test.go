package storage

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"keel/boot/handoff"
	"keel/kernelcfg"
	"keel/tests/harness"
)

// TestRootFS boots Debian from the translated disk, logs in, and shuts it down.
func TestRootFS(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	master, err := kernelcfg.RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines(virtio61x1, storvsc61x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			disk := filepath.Join(t.TempDir(), "root.img")
			if err := CopyImage(disk, master); err != nil {
				t.Fatal(err)
			}
			g := guests[m.Kernel]
			s := tool.StartSession(t, append(m.base([]string{disk}), "--mem", "768M", "--initrd", g.Boot,
				"--append", RootCmdline(g.Modules(m.Front), 0))...)
			s.Expect(t, "login: ")
			s.Send(t, "root\r")
			s.Expect(t, ":~# ")
			// The quotes keep the terminal's echo from looking like the answer.
			s.Send(t, "echo ro''ot is $(findmnt -no FSTYPE,OPTIONS /)\r")
			s.Expect(t, "root is ext4 rw")
			s.Send(t, "dd if=/dev/urandom of=/var/tmp/f bs=64k count=64; sync; echo wri''tten\r")
			s.Expect(t, "written")
			s.Send(t, "systemctl --no-pager --failed; systemctl poweroff\r")
			s.Wait(t, handoff.OutcomePoweroff)
			checkClean(t, disk)
		})
	}
}

// checkClean checks that a file system was unmounted and is whole.
func checkClean(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := CleanExt4(f); err != nil {
		t.Error(err)
	}
	e2fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		e2fsck = "/usr/sbin/e2fsck" // where a user's PATH may not lead
	}
	if out, err := exec.Command(e2fsck, "-f", "-n", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
