package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"keel/boot/handoff"
)

const (
	qemuBinary  = "qemu-system-x86_64"
	installHint = "install it: apt-get install qemu-system-x86"

	// Oldest QEMU whose TCG is known to run nested guests.
	minMajor, minMinor = 7, 2

	probeTime = 20 * time.Second // a loaded machine starts even "-version" slowly
)

// version matches the first line of "qemu -version".
var version = regexp.MustCompile(`(?m)^QEMU emulator version (\d+\.\d+[^\s(]*)`)

// vendors lists the CPU flag that each KVM module needs for nesting.
var vendors = []struct{ flag, parameter string }{
	{"svm", "sys/module/kvm_amd/parameters/nested"},
	{"vmx", "sys/module/kvm_intel/parameters/nested"},
}

// findQEMU returns the binary to run: the given one, or the one in PATH.
func findQEMU(path string) (string, error) {
	if path == "" {
		path = qemuBinary
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", &handoff.Failure{Outcome: handoff.OutcomeHostRefused, Cause: "QEMU is not installed", Remedy: installHint, Err: err}
	}
	return found, nil
}

// probe runs QEMU with one informative option and returns what it prints.
func probe(ctx context.Context, qemu string, args ...string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(bounded, qemu, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil { // the user ended it, and the run with it
			return "", ended(ctx)
		}
		return "", &handoff.Failure{
			Outcome: handoff.OutcomeHostRefused, Cause: qemu + " does not run", Remedy: "re" + installHint,
			Err: fmt.Errorf("%w %s", err, oneLine(stderr.String())),
		}
	}
	return out.String(), nil
}

// qemuVersion asks QEMU for its version and refuses one that is too old.
func qemuVersion(ctx context.Context, qemu string) (string, error) {
	out, err := probe(ctx, qemu, "-version")
	if err != nil {
		return "", err
	}
	m := version.FindStringSubmatch(out)
	if m == nil {
		return "", failure(handoff.OutcomeHostRefused, fmt.Sprintf("%s is not QEMU: it says %q", qemu, oneLine(out)), installHint)
	}
	if !atLeast(m[1], minMajor, minMinor) {
		return "", failure(handoff.OutcomeHostRefused, "QEMU "+m[1]+" is too old",
			fmt.Sprintf("use %d.%d or newer, as in Debian 12", minMajor, minMinor))
	}
	return m[1], nil
}

// atLeast reports whether a version of QEMU is major.minor or newer. One that does
// not begin with two numbers is old.
func atLeast(version string, major, minor int) bool {
	var haveMajor, haveMinor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &haveMajor, &haveMinor); n != 2 {
		return false
	}
	return haveMajor > major || haveMajor == major && haveMinor >= minor
}

// chooseLoader turns auto into PVH and asks QEMU whether it can load IGVM
// files when that was demanded. Every QEMU of Debian 12 and 13 knows PVH only.
func chooseLoader(ctx context.Context, qemu string, l Loader) (Loader, error) {
	if l != LoaderIGVM {
		return LoaderPVH, nil
	}
	out, err := probe(ctx, qemu, "-object", "help")
	if err != nil {
		return "", err
	}
	for f := range strings.FieldsSeq(out) {
		if f == "igvm-cfg" {
			return LoaderIGVM, nil
		}
	}
	return "", failure(handoff.OutcomeHostRefused, "this QEMU has no IGVM loader (-object igvm-cfg)", "use --loader pvh")
}

// chooseAccel turns auto into KVM where nesting works and into TCG elsewhere,
// and refuses KVM where it does not. host is the root of the file system and
// open opens /dev/kvm.
func chooseAccel(a Accel, host fs.FS, open func() error) (Accel, error) {
	if a == AccelTCG {
		return a, nil
	}
	why := noNesting(host, open)
	switch {
	case why == "":
		return AccelKVM, nil
	case a == AccelKVM:
		return "", failure(handoff.OutcomeHostRefused, "nested KVM does not work here: "+why, "use --accel tcg")
	}
	return AccelTCG, nil
}

// noNesting says why KVM cannot run a VM that itself uses KVM, or nothing.
func noNesting(host fs.FS, open func() error) string {
	if err := open(); err != nil {
		return err.Error()
	}
	info, err := fs.ReadFile(host, "proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	for _, v := range vendors {
		if !hasFlag(info, v.flag) {
			continue
		}
		set, err := fs.ReadFile(host, v.parameter)
		if err != nil {
			return err.Error()
		}
		if s := strings.TrimSpace(string(set)); s != "1" && s != "Y" {
			return fmt.Sprintf("/%s is %q", v.parameter, s)
		}
		return ""
	}
	return "/proc/cpuinfo lists neither svm nor vmx"
}

// hasFlag looks for a CPU flag in the text of /proc/cpuinfo.
func hasFlag(cpuinfo []byte, flag string) bool {
	for line := range bytes.Lines(cpuinfo) {
		name, flags, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(name)) != "flags" {
			continue
		}
		for f := range bytes.FieldsSeq(flags) {
			if string(f) == flag {
				return true
			}
		}
		return false // every CPU lists the same
	}
	return false
}

// openKVM tells whether this process may use KVM.
func openKVM() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// checkMemory refuses a VM for which the host has no memory: QEMU would start
// and be killed later, when the guest touches what is not there.
func checkMemory(guest, vm uint64, host fs.FS) error {
	info, err := fs.ReadFile(host, "proc/meminfo")
	if err != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeHostRefused, Cause: "cannot see how much memory is free", Remedy: "mount /proc", Err: err}
	}
	_, rest, found := strings.Cut(string(info), "MemAvailable:")
	var kib uint64
	if _, err := fmt.Sscan(rest, &kib); !found || err != nil {
		return failure(handoff.OutcomeHostRefused, "/proc/meminfo has no MemAvailable", "use Linux 3.14 or newer")
	}
	if kib<<10 < vm {
		return failure(handoff.OutcomeTooLittleMemory,
			fmt.Sprintf("the VM needs %s (guest %s, Keel %s) and the host has %s free", mib(vm), mib(guest), mib(vm-guest), mib(kib<<10)),
			"ask for less with --mem or free some")
	}
	return nil
}
