package initramfs

import "github.com/u-root/u-root/pkg/cpio"

// guestInit is the /init of the busybox initrd. The shell gets a session of its
// own with the serial port as controlling terminal, so that job control and
// Ctrl-C work.
const guestInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /bin /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev 2>/dev/null
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TERM=vt100 ENV=/etc/shell PS1='keel-guest:\w# '
hostname keel-guest
echo "KEEL-GUEST userspace"
echo "Linux $(uname -r) on $(nproc) processors. poweroff ends the guest, reboot restarts it."
while :; do
	setsid cttyhack sh </dev/ttyS0 >/dev/ttyS0 2>&1
done
`

// guestShell is read by the interactive shell. PID 1 is a script and no init of
// busybox's, so the plain commands would signal nobody: these ask the kernel.
const guestShell = `poweroff() { /bin/busybox poweroff -f; }
reboot() { /bin/busybox reboot -f; }
halt() { /bin/busybox poweroff -f; }
`

// BusyboxInitrd returns a guest initrd that holds the statically linked busybox
// at path and ends at a shell on the first serial port.
func BusyboxInitrd(path string) ([]byte, error) {
	var a archive
	a.system()
	if err := a.program("bin/busybox", path); err != nil {
		return nil, err
	}
	a.add(executable("init", []byte(guestInit)))
	a.add(cpio.StaticFile("etc/shell", guestShell, 0o644))
	return a.bytes()
}

// ProgramInitrd returns a guest initrd whose /init is the static program at path.
func ProgramInitrd(path string) ([]byte, error) {
	var a archive
	a.system()
	if err := a.program("init", path); err != nil {
		return nil, err
	}
	return a.bytes()
}
