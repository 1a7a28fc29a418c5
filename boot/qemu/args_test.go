package qemu

import (
	"slices"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	m := machine{
		name: "n1", accel: AccelTCG, version: "8.1.0", loader: LoaderPVH, hostCPUs: 2, vps: 4, size: 584 << 20,
		fds:   fds{image: 3, config: 4, kernel: 5, initrd: 6, vtl2: 7, console: 8, log: 9, control: 10, qmp: 11, vsock: 12},
		extra: []string{"-d", "int"},
	}
	want := strings.Fields(`-name guest=n1 -nodefaults -no-user-config -display none -no-reboot
		-accel tcg,thread=multi -cpu EPYC-Rome,+svm -smp 3 -m 584M
		-object memory-backend-memfd,id=ram,size=612368384,share=on,seal=on -machine memory-backend=ram -machine q35 -bios qboot.rom -kernel /proc/self/fd/3
		-fw_cfg name=opt/keel/config,file=/proc/self/fd/4 -fw_cfg name=opt/keel/kernel,file=/proc/self/fd/5
		-fw_cfg name=opt/keel/initrd,file=/proc/self/fd/6
		-chardev socket,id=vtl2,fd=7 -serial chardev:vtl2 -device virtio-serial-pci,id=ports
		-chardev socket,id=console,fd=8 -device virtserialport,bus=ports.0,chardev=console,name=keel.console
		-chardev socket,id=log,fd=9 -device virtserialport,bus=ports.0,chardev=log,name=keel.log
		-chardev socket,id=control,fd=10 -device virtserialport,bus=ports.0,chardev=control,name=keel.control
		-chardev socket,id=qmp,fd=11 -mon chardev=qmp,mode=control
		-chardev socket,id=vsock,fd=12 -device vhost-user-vsock-pci,id=vsock0,chardev=vsock -d int`)
	if got := arguments(m); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, " "), strings.Join(want, " "))
	}
}

// TestArgumentsVary checks what each choice changes.
func TestArgumentsVary(t *testing.T) {
	tests := map[string]struct {
		change   func(*machine)
		has, not string
	}{
		"KVM":              {func(m *machine) { m.accel = AccelKVM }, "-accel kvm -cpu host", "tcg"},
		"IGVM":             {func(m *machine) { m.loader = LoaderIGVM }, "-machine q35,igvm-cfg=igvm0 -object igvm-cfg,id=igvm0,file=/proc/self/fd/3", "-kernel"},
		"no initrd":        {func(m *machine) { m.fds.initrd = 0 }, "opt/keel/kernel", "opt/keel/initrd"},
		"fewer VPs":        {func(m *machine) { m.vps = 1 }, "-smp 2 ", "-smp 3 "},
		"unknown host":     {func(m *machine) { m.hostCPUs = 0 }, "-smp 2 ", "-smp 1"},
		"old QEMU":         {func(m *machine) { m.version = "8.0.5" }, "tcg,thread=single", "multi"},
		"old QEMU, 4 VPs":  {func(m *machine) { m.version, m.vps = "7.2.22", 4 }, "-smp 5 ", "multi"},
		"new QEMU, 4 VPs":  {func(m *machine) { m.version, m.vps = "8.1.0", 4 }, "-smp 3 ", "single"},
		"old QEMU, 1 VP":   {func(m *machine) { m.version, m.vps = "7.2.22", 1 }, "tcg,thread=multi", "single"},
		"odd QEMU":         {func(m *machine) { m.version = "" }, "tcg,thread=single", "multi"},
		"new QEMU":         {func(m *machine) { m.version = "10.0.2" }, "tcg,thread=multi", "single"},
		"memory and extra": {func(m *machine) { m.size = 129 << 20 }, "-m 129M", "-d int"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := machine{accel: AccelTCG, version: "8.1.0", loader: LoaderPVH, hostCPUs: 2, vps: 2, size: MinMemory, fds: fds{image: 3, kernel: 4, initrd: 5}}
			tt.change(&m)
			got := strings.Join(arguments(m), " ")
			if !strings.Contains(got, tt.has) || strings.Contains(got, tt.not) {
				t.Errorf("has not %q or has %q: %s", tt.has, tt.not, got)
			}
		})
	}
}
