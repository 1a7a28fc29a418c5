package main

import (
	"bytes"
	"context"

	"keel/boot"
	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/paravisor/guestload"
	"keel/vtpm/eventlog"
)

// lowRAM bounds the guest RAM below 4 GiB, in bytes, as the paravisor's machine
// does: the launcher checks against it whether the payload fits.
const lowRAM = 3 << 30

// load reads and checks everything that can be checked before QEMU starts,
// with the same code that checks it in the VM; the cheap comes first.
func (f *runFlags) load(ctx context.Context) error {
	var err error
	f.Accel, f.Loader = qemu.Accel(f.accel), qemu.Loader(f.loader)
	if f.Memory, err = qemu.ParseMemory(f.memory); err != nil {
		return err
	}
	if err := f.Validate(); err != nil {
		return err
	}
	isolation, err := config.ParseIsolation(f.isolation)
	if err != nil {
		return err
	}
	if err := f.loadDisks(); err != nil {
		return err
	}
	tpm, err := f.loadTPM(isolation)
	if err != nil {
		return err
	}
	if err := qemu.NameDisks(f.Disks); err != nil {
		return err
	}
	if tpm != nil && f.tpm.state != "" {
		tpm.StateSerial = f.Disks[len(f.Disks)-1].Serials[0]
	}
	if err := f.loadPayload(ctx); err != nil {
		return err
	}
	if err := checkPayload(f.Kernel, f.Initrd, f.Memory, f.TPM); err != nil {
		return err
	}
	if err := f.loadImage(ctx); err != nil {
		return err
	}
	strict, err := config.ParseStrict(f.strict)
	if err != nil {
		return err
	}
	var digest []byte
	if isolation != config.IsolationNone {
		if digest, err = launchDigest(f.image, isolation); err != nil {
			return err
		}
	}
	f.Config, err = config.Marshal(&config.Config{
		GuestName:    f.Name,
		VPs:          f.VPs,
		Memory:       f.Memory,
		CommandLine:  f.commandLine,
		KernelSize:   uint64(len(f.Kernel)),
		HasInitrd:    len(f.Initrd) > 0,
		InitrdSize:   uint64(len(f.Initrd)),
		LogJSON:      f.logJSON,
		TraceExits:   f.traceExits,
		Isolation:    isolation,
		LaunchDigest: digest,
		Oracle:       f.oracle,
		Strict:       strict,
		Disks:        configDisks(f.Disks),
		TPM:          tpm,
	})
	return err
}

// launchDigest measures the image as the hardware of an isolated VM would.
func launchDigest(image string, isolation config.Isolation) ([]byte, error) {
	m, err := boot.Measure(image, []string{isolation.String()}, false)
	if err != nil {
		return nil, err
	}
	return m[0].Digest[:], nil
}

// loadPayload reads the guest's kernel and initrd. The default initrd goes
// with the default kernel only: another kernel may have brought its own.
func (f *runFlags) loadPayload(ctx context.Context) error {
	var err error
	if f.initrd != "" {
		f.Initrd, err = qemu.ReadFile(f.initrd, "initrd", handoff.OutcomeBadInitrd)
	} else if f.kernel == "" {
		f.Initrd, err = defaultInitrd(ctx)
	}
	if err != nil {
		return err
	}
	path := f.kernel
	if path == "" {
		if path, err = defaultKernel(ctx); err != nil {
			return err
		}
	}
	f.Kernel, err = qemu.ReadFile(path, "kernel", handoff.OutcomeBadKernel)
	return err
}

// checkPayload refuses a damaged kernel or initrd, and what does not fit into
// memory bytes of guest memory.
func checkPayload(kernel, initrd []byte, memory uint64, tpm bool) error {
	if err := guestload.VerifyKernel(bytes.NewReader(kernel), int64(len(kernel))); err != nil {
		return err
	}
	m := guestload.Map{LowRAM: min(memory, lowRAM), HighRAM: memory - min(memory, lowRAM)}
	if tpm {
		m.LowRAM -= eventlog.AreaSize
	}
	plan, err := guestload.PlanKernel(head(kernel), uint64(len(kernel)), m)
	if err != nil || len(initrd) == 0 {
		return err
	}
	if err := guestload.VerifyInitrd(bytes.NewReader(initrd), int64(len(initrd))); err != nil {
		return err
	}
	_, err = plan.PlaceInitrd(head(initrd), uint64(len(initrd)))
	return err
}

// head returns the part of a file that planning looks at.
func head(b []byte) []byte { return b[:min(len(b), guestload.HeadSize)] }

// loadImage checks the image and turns it into what the loader takes.
func (f *runFlags) loadImage(ctx context.Context) error {
	var err error
	if f.image == "" {
		if f.image, err = defaultImage(ctx); err != nil {
			return err
		}
	}
	image, err := qemu.ReadFile(f.image, "image", handoff.OutcomeBadImage)
	if err != nil {
		return err
	}
	f.ImageBytes = int64(len(image))
	pvh, err := boot.PVHFromIGVM(image) // checks as boot.Open does
	if err != nil {
		return err
	}
	f.Image = pvh
	if f.Loader == qemu.LoaderIGVM {
		f.Image = image
	}
	return nil
}
