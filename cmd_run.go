package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

const runHelp = `Boot a guest, unmodified, beneath Keel in a VM of stock QEMU.

The guest's COM1 is the terminal; Ctrl-A X ends the run, Ctrl-A H helps.
In a checkout every file has a default: the image is build/keel.igvm (built when
it is missing), the kernel is Debian's 6.1 cloud kernel, and the initrd ends at a
busybox shell.

Exit codes:
   0  the guest powered itself off
   1  the launcher itself failed
   2  unknown flag or malformed value
   3  guest kernel missing or corrupt
   4  guest initrd missing or corrupt
   5  image missing, corrupt or for another architecture
   6  configuration malformed or refused by the image's policy
   7  the host or the VM lacks what Keel needs (QEMU, SVM or VMX)
   8  too little memory
   9  impossible number of VPs
  10  the guest crashed
  11  the paravisor crashed
  12  --timeout passed
  13  ended by the user or by a signal
  14  the VM ended without a word
  15  disk image missing, locked or malformed
  16  TPM state missing, damaged, sealed with another key or of another VM, or its key
      is not released`

// runFlags are the flags of "keel run" that are not qemu.Options as they
// stand.
type runFlags struct {
	qemu.Options

	image, kernel, initrd string // file names
	commandLine           string
	memory                string
	logJSON               bool
	traceExits            bool
	isolation             string
	oracle                bool
	strict                string
	accel, loader         string
	disks                 []string
	diskAdd, diskRemove   string
	diskGrow              string
	tpm                   tpmFlags
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Boot a guest beneath Keel",
		Long:  runHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.changes() {
				return f.change(cmd.Context())
			}
			return f.run(cmd.Context())
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.image, "image", "", "IGVM image of Keel (default build/keel.igvm of the checkout)")
	s.StringVar(&f.kernel, "kernel", "", "guest kernel, bzImage or vmlinux (default Debian's 6.1 cloud kernel)")
	s.StringVar(&f.initrd, "initrd", "", "guest initrd (default busybox with the default kernel, else none)")
	s.StringVar(&f.commandLine, "append", "console=ttyS0", "command line of the guest kernel")
	s.IntVar(&f.VPs, "vps", 1, fmt.Sprintf("virtual processors of the guest, 1 to %d", qemu.MaxVPs))
	s.StringVar(&f.memory, "mem", "512M", "guest memory; Keel's own comes on top")
	s.StringArrayVar(&f.disks, "disk", nil,
		"disk FILE[,front=virtio-scsi|storvsc][,ro][,dvd][,bs=512|4096][,stripe=FILE+FILE][,chunk=SIZE]; may be repeated")
	s.StringVar(&f.diskAdd, "disk-add", "", "start nothing: add this disk, as for --disk, to the VM that runs with that --name")
	s.StringVar(&f.diskRemove, "disk-remove", "", "start nothing: remove the disk of this file from the VM that runs with that --name")
	s.StringVar(&f.diskGrow, "disk-grow", "", "start nothing: show the guest of the VM with that --name the new size of this file")
	s.StringVar(&f.tpm.front, "tpm", "", "TPM of the guest: off, auto (crb), crb or tis (default off, with --tpm-state auto)")
	s.StringVar(&f.tpm.state, "tpm-state", "", "disk, a file of 4 MiB or more, that keeps the TPM's state; without one it is new each time")
	s.StringVar(&f.tpm.key, "tpm-key", "", "file with the key that seals the state (default FILE.key, made for an empty state)")
	s.StringVar(&f.tpm.seal, "tpm-seal", sealHostKey, "what seals the state: host-key, or with isolation hardware: a key that the TEE derives for this image, or released: a key that a key server releases")
	s.StringVar(&f.tpm.server, "key-server", "", "with --tpm-seal released: address of the key server, HOST:PORT or the path of a Unix socket")
	s.StringVar(&f.tpm.serverKey, "key-server-key", "", "with --tpm-seal released: the key server's public key, 64 hexadecimal digits or a file with them")
	s.BoolVar(&f.tpm.reset, "tpm-state-reset", false, "give the TPM's state up and make a new TPM; also makes a missing file")
	s.StringVar(&f.Name, "name", "keel", "name of the VM")
	s.StringVar(&f.accel, "accel", "auto", "auto, kvm or tcg; auto picks kvm only where nesting works")
	s.StringVar(&f.loader, "loader", "auto", "auto, pvh or igvm (-object igvm-cfg of newer QEMU)")
	s.StringVar(&f.Console, "console", qemu.ConsoleStdio, "stdio, or a file for the raw console output")
	s.StringVar(&f.Log, "log", "", "file for the paravisor's log")
	s.StringVar(&f.VTL2Log, "vtl2-log", "", "file for the messages of Keel's own kernel")
	s.BoolVar(&f.logJSON, "log-json", false, "write the log as JSON lines")
	s.BoolVar(&f.traceExits, "trace-exits", false, "log every guest exit")
	s.StringVar(&f.isolation, "isolation", "none", "none, snp or tdx: the guest as a confidential VM, on an emulated SEV-SNP machine or TDX module")
	s.BoolVar(&f.oracle, "oracle", false, "with --isolation: compare the instructions that Keel executes for the guest with what KVM does")
	s.StringVar(&f.strict, "strict", "off", "with --isolation: off, count or kill: what becomes of requests to the host, once the guest runs, that are not on Keel's list")
	s.StringVar(&f.JSONReport, "json", "", "file for the run report")
	s.DurationVar(&f.Timeout, "timeout", 0, "end the run after this time, for example 90s")
	s.StringVar(&f.QEMU, "qemu", "", "QEMU binary (default qemu-system-x86_64 in PATH)")
	s.StringArrayVar(&f.ExtraArgs, "qemu-arg", nil, "further argument for QEMU; may be repeated")
	return cmd
}

// run boots the guest and writes the report, also of a run that did not start.
func (f *runFlags) run(ctx context.Context) error {
	report := &qemu.Report{Name: f.Name, VPs: f.VPs}
	err := f.load(ctx)
	if err == nil {
		if f.Console == qemu.ConsoleStdio && term.IsTerminal(int(os.Stdin.Fd())) {
			fmt.Fprintln(os.Stderr, "keel: starting; Ctrl-A X ends, Ctrl-A H helps")
		}
		report, err = qemu.Run(ctx, &f.Options, &qemu.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	} else {
		report.Conclude(err)
	}
	return errors.Join(err, writeReport(f.JSONReport, report))
}

// writeReport writes the run report to the file that --json names.
func writeReport(path string, r *qemu.Report) error {
	if path == "" {
		return nil
	}
	b, err := r.JSON()
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: "cannot write --json", Remedy: "name a file that can be written", Err: err,
		}
	}
	return nil
}
