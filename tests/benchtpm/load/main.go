// Command load is PID 1 of a guest whose TPM is measured from inside: it runs commands
// through /dev/tpm0, that is through the kernel's driver and the TPM's registers, and
// reports in the words of package tests/guest:
//
//	KEEL-GUEST userspace
//	KEEL-BENCH NAME VALUE us       median of a command, its name with _ for spaces
//	KEEL-GUEST result PASS tpm ... all of them ran
//
// With keel.tpm=off on the kernel's command line it runs none.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"golang.org/x/sys/unix"

	"keel/tests/bench/report"
	"keel/tests/benchtpm/command"
)

const (
	device  = "/dev/tpm0"
	patient = 30 * time.Second // for a driver that still looks at its TPM

	// The emulated processor is slow: fewer commands than on the host do.
	fewer = 10
	least = 10
)

func main() {
	fmt.Println("KEEL-GUEST userspace")
	detail, err := run()
	if err != nil {
		fmt.Printf("KEEL-GUEST result FAIL tpm %q\n", err.Error())
	} else {
		fmt.Println("KEEL-GUEST result PASS tpm", detail)
	}
	fmt.Println("KEEL-GUEST done")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // does not come back
	for {
		_ = unix.Pause()
	}
}

func run() (string, error) {
	for _, m := range []struct{ target, fstype string }{{"/proc", "proc"}, {"/dev", "devtmpfs"}} {
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("0 4 0 7\n"), 0); err != nil {
		return "", err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	if bytes.Contains(cmdline, []byte("keel.tpm=off")) {
		return "off", nil
	}
	for end := time.Now().Add(patient); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(device); err == nil {
			break
		} else if time.Now().After(end) {
			return "", err
		}
	}
	t, err := linuxtpm.Open(device)
	if err != nil {
		return "", err
	}
	defer t.Close()
	ran := 0
	for i := range command.Operations {
		op := &command.Operations[i]
		// Startup is the firmware's; RSA keys take minutes to make.
		if op.Cold || strings.Contains(op.Name, "RSA") {
			continue
		}
		if err := measure(op, t); err != nil {
			return "", fmt.Errorf("%s: %w", op.Name, err)
		}
		ran++
	}
	return fmt.Sprintf("%d operations", ran), nil
}

// measure prints the median time of an operation.
func measure(op *command.Operation, t transport.TPM) (err error) {
	k := &command.Kit{TPM: t}
	defer func() { err = errors.Join(err, k.Forget()) }()
	b, err := op.Prepare(k)
	if err != nil {
		return err
	}
	var times []float64
	for n := range 1 + max(op.Count/fewer, least) { // the first is not counted
		if op.Vary != nil {
			op.Vary(b, uint32(n+1))
		}
		start := time.Now()
		if err := k.Send(b); err != nil {
			return err
		}
		if n > 0 {
			times = append(times, float64(time.Since(start).Nanoseconds())/1e3)
		}
	}
	fmt.Printf("KEEL-BENCH %s %.1f us\n", strings.ReplaceAll(op.Name, " ", "_"), report.Median(times))
	return nil
}
