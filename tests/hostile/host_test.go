package hostile

import (
	"fmt"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/qemu/vsock"
	"keel/paravisor/config"
)

// wrapper is a QEMU that obeys the tool except for one argument: $1 of the sed
// script. Empty arguments are dropped together with the option before them.
const wrapper = `#!/bin/bash
args=()
for a in "$@"; do
	b=$(printf %s "$a" | sed 'SCRIPT')
	if [ -n "$b" ]; then args+=("$b"); else unset 'args[-1]'; fi
done
exec qemu-system-x86_64 "${args[@]}"
`

// doctored makes a QEMU that passes every argument through a script of sed.
func doctored(t *testing.T, script string) []string {
	t.Helper()
	return []string{"--qemu", file(t, "qemu", []byte(strings.Replace(wrapper, "SCRIPT", script, 1)))}
}

// swap replaces the contents of a fw_cfg file.
func swap(t *testing.T, name, contents string) []string {
	t.Helper()
	return doctored(t, "s|^name="+name+",.*|name="+name+",file="+file(t, "swapped", []byte(contents))+"|")
}

// drop leaves a fw_cfg file out.
func drop(t *testing.T, name string) []string {
	t.Helper()
	return doctored(t, "s|^name="+name+",.*||")
}

// settings returns a configuration with changes.
func settings(t *testing.T, old, changed string) string {
	t.Helper()
	b, err := config.Marshal(&config.Config{GuestName: "guest", VPs: 1, Memory: 128 << 20, KernelSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Replace(string(b), old, changed, 1)
	if s == string(b) {
		t.Fatalf("%s lacks %s", b, old)
	}
	return s
}

// TestHost is a host that changes what the tool has checked, on its way into the
// VM: Keel refuses it there with the same words and exit codes.
func TestHost(t *testing.T) {
	t.Parallel()
	good := program{code: tripleFault}
	kernel := good.write(t)
	const name = `"guestName"`
	for _, tt := range []struct {
		name  string
		flags []string
		want  handoff.Outcome
		says  string
	}{
		{"no configuration", drop(t, handoff.FileConfig), handoff.OutcomeBadConfig, "configuration"},
		{"unknown field", swap(t, handoff.FileConfig, settings(t, name, `"colour":"red",`+name)), handoff.OutcomeBadConfig, "colour"},
		{"no JSON", swap(t, handoff.FileConfig, "\x00\xff{{{"), handoff.OutcomeBadConfig, "configuration"},
		{"endless configuration", swap(t, handoff.FileConfig, strings.Repeat("{", 1<<20)), handoff.OutcomeBadConfig, "65536"},
		{"17 VPs", swap(t, handoff.FileConfig, settings(t, `:1,`, `:17,`)), handoff.OutcomeBadVPCount, "17"},
		{"more than the policy allows", swap(t, handoff.FileConfig, settings(t, name, `"traceExits":true,`+name)), handoff.OutcomeBadConfig, "release"},
		{"no kernel", drop(t, handoff.FileKernel), handoff.OutcomeBadKernel, "kernel"},
		{"another kernel", swap(t, handoff.FileKernel, strings.Repeat("noise", 9999)), handoff.OutcomeBadKernel, "kernel"},
		{"kernel cut short", swap(t, handoff.FileKernel, string(good.vmlinux()[:5000])), handoff.OutcomeBadKernel, "kernel"},
		{"VM smaller than its guest", memory(100), handoff.OutcomeTooLittleMemory, "memory"},
		{"VM hardly larger than its guest", memory(144), handoff.OutcomeTooLittleMemory, "memory"},
		{"VM of no use", memory(24), handoff.OutcomeHostRefused, "memory"},
		{"no SVM", []string{"--qemu-arg", "-cpu", "--qemu-arg", "max,-svm"}, handoff.OutcomeHostRefused, "svm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refuse(t, tt.want, tt.says, append([]string{"--kernel", kernel}, tt.flags...)...)
		})
	}
}

// memory gives the VM another size, in MiB: QEMU wants its memory's backend to agree.
func memory(mib uint64) []string {
	args := []string{"-m", fmt.Sprintf("%dM", mib)}
	for _, a := range vsock.MemoryArgs(mib << 20) {
		// The launcher's own backend stays beside this one, and takes nothing.
		args = append(args, strings.NewReplacer("id=ram", "id=other", "memory-backend=ram", "memory-backend=other").Replace(a))
	}
	var flags []string
	for _, a := range args {
		flags = append(flags, "--qemu-arg", a)
	}
	return flags
}
