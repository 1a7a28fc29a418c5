package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/tests/harness"
)

const (
	diagDisk     = "virtio-scsi.0" // the guest's disk
	diagDiskSize = 16 << 20        // bytes
	// maxDiskMemory is what VTL2 may need on top with one disk, in bytes: the launcher
	// reserves as much.
	maxDiskMemory = 16 << 20
)

// diskFlags give a guest that ends at a shell a disk.
func diskFlags(t *testing.T) []string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, diagDiskSize); err != nil {
		t.Fatal(err)
	}
	return []string{
		"--initrd", payload.disks, "--append", "console=ttyS0 quiet keel.modules=" + payload.modules, "--disk", image + ",front=virtio-scsi",
	}
}

// sh runs a command in the guest, which must succeed.
func (vm *diagVM) sh(t *testing.T, command string) {
	t.Helper()
	// The shell echoes what is typed: it does not say what is expected.
	vm.Send(t, command+" && echo did-$((6*7)) || echo failed\r")
	vm.Expect(t, "did-42\r\n")
}

// diagCapture looks at a disk: at its figures, and at what crosses it.
func diagCapture(t *testing.T, vm *diagVM) {
	t.Helper()
	vm.sh(t, "until [ -b /dev/sda ]; do sleep 0.1; done")
	vm.sh(t, "echo 0 >/sys/block/sda/queue/read_ahead_kb")
	const disk = "disks/" + diagDisk
	member := look(t, vm.Name, disk+"/members/0")
	before := look(t, vm.Name, disk+"/members/0/read_bytes").sum()
	vm.sh(t, "dd if=/dev/sda of=/dev/null bs=4096 skip=500 count=4")
	if after := look(t, vm.Name, disk+"/members/0/read_bytes").sum(); after != before+4*4096 {
		t.Errorf("%v bytes were read, then %v", before, after)
	}
	if member.Withheld || look(t, vm.Name, disk+"/members/0/latency").Name == "" {
		t.Errorf("%+v", member)
	}
	guest := look(t, vm.Name, disk+"/guest")
	if vm.Confidential {
		if !guest.Withheld || len(guest.Fields) != 0 {
			t.Errorf("the guest's commands: %+v", guest)
		}
		vm.failed(t, handoff.OutcomeBadConfig, "rule storage refuses Capture/PacketCapture", "diag", "capture", vm.Name)
		vm.failed(t, handoff.OutcomeBadConfig, "rule storage refuses Capture/PacketCapture", "diag", "capture", vm.Name, "--disk", diagDisk, "--data", "1")
		return
	}
	if reads, bytes := look(t, vm.Name, disk+"/guest/reads").sum(), look(t, vm.Name, disk+"/guest/read_bytes").sum(); reads < 4 || bytes < 4*4096 {
		t.Errorf("%v reads of %v bytes", reads, bytes)
	}
	vm.failed(t, handoff.OutcomeUsage, "no such disk", "diag", "capture", vm.Name, "--disk", "virtio-scsi.9")
	vm.failed(t, handoff.OutcomeUsage, "at most", "diag", "capture", vm.Name, "--data", "4097")
	vm.headers(t)
	vm.data(t)
	vm.piped(t)
}

// capture captures while the guest does something, and returns the file.
func (vm *diagVM) capture(t *testing.T, guest []string, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	path := filepath.Join(t.TempDir(), "disk.pcapng")
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, tool.Path, append([]string{"diag", "capture", vm.Name, "-o", path, "--json"}, flags...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for begun := false; !begun; { // its head is there once commands are captured
		select {
		case err := <-ended:
			t.Fatalf("%v: %s", err, &errs)
		case <-time.After(10 * time.Millisecond):
			st, err := os.Stat(path)
			begun = err == nil && st.Size() > 0
		}
	}
	for _, command := range guest {
		vm.sh(t, command)
	}
	// What the guest did is there before Ctrl-C: records wait for 50 ms.
	time.Sleep(time.Second)
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Ctrl-C: %v: %s", err, &errs)
	}
	var said struct{ Records, Lost, Bytes uint64 }
	if err := json.Unmarshal(out.Bytes(), &said); err != nil || said.Records == 0 || said.Lost != 0 {
		t.Errorf("%s, %v", &out, err)
	}
	if st, err := os.Stat(path); err != nil || uint64(st.Size()) != said.Bytes {
		t.Errorf("%+v, but the file has %v, %v", said, st, err)
	}
	for deadline := time.Now().Add(harness.Patience); look(t, vm.Name, "diag/following").sum() > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the capture does not end in the VM")
		}
	}
	return path
}

// tshark returns the fields of the packets of a file that a filter lets through.
func tshark(t *testing.T, path, filter string, fields ...string) []string {
	t.Helper()
	args := []string{"-r", path, "-Y", filter, "-T", "fields", "-E", "separator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's settings
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, errs.String())
	}
	return strings.Fields(string(out))
}

const captureMark = "KEEL-CAPTURE-MARK"

// write has the guest write the mark to block 1000, in a page of eight blocks.
const write = "printf " + captureMark + " | dd of=/dev/sda bs=512 seek=1000 conv=notrunc,fsync"

// headers captures commands without data, and reads back with tshark which they were.
func (vm *diagVM) headers(t *testing.T) {
	t.Helper()
	path := vm.capture(t, []string{"dd if=/dev/sda of=/dev/null bs=4096 skip=37 count=3", write})
	for _, filter := range []string{
		"scsi_sbc.opcode == 0x28 && scsi_sbc.rdwr10.lba == 296 && scsi_sbc.rdwr10.xferlen == 8",
		"scsi_sbc.opcode == 0x28 && scsi_sbc.rdwr10.lba == 312 && iscsi.scsicommand.expecteddatatransferlength == 4096",
		"scsi_sbc.opcode == 0x2a && scsi_sbc.rdwr10.lba == 1000 && iscsi.scsicommand.W == 1 && scsi.lun == 0",
		"nvme.cmd.opc == 2 && nvme.cmd.slba == 296 && nvme.cmd.nlb == 8",
		"nvme.cmd.opc == 2 && nvme.cmd.slba == 312",
		"nvme.cmd.opc == 1 && nvme.cmd.slba == 1000",
	} {
		if found := tshark(t, path, filter+` && frame.interface_name contains "`+diagDisk+`"`, "frame.number"); len(found) != 1 {
			t.Errorf("%s: packets %q", filter, found)
		}
	}
	// Each command has its end, and that was good.
	commands, ends := tshark(t, path, "iscsi.opcode == 1", "frame.number"), tshark(t, path, "iscsi.opcode == 0x21 && scsi.status == 0 && iscsi.request_frame", "frame.number")
	if len(commands) == 0 || len(ends) != len(commands) {
		t.Errorf("%d SCSI commands, %d ends", len(commands), len(ends))
	}
	commands, ends = tshark(t, path, "nvme.cmd.opc", "frame.number"), tshark(t, path, "nvme.cqe.status.sc == 0 && nvme.cmd_latency", "frame.number")
	if len(commands) == 0 || len(ends) != len(commands) {
		t.Errorf("%d NVMe commands, %d completions", len(commands), len(ends))
	}
	if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(captureMark)) {
		t.Errorf("data that nobody asked for; %v", err)
	}
}

// data captures with data, in both directions.
func (vm *diagVM) data(t *testing.T) {
	t.Helper()
	drop := "echo 3 >/proc/sys/vm/drop_caches"
	for _, command := range []string{write, drop + " && dd if=/dev/sda of=/dev/null bs=4096 skip=125 count=1"} {
		path := vm.capture(t, []string{command}, "--disk", diagDisk, "--data", "64")
		if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, []byte(captureMark)) {
			t.Errorf("%s: its data is missing; %v", command, err)
		}
	}
}

// piped has tshark read what is being captured.
func (vm *diagVM) piped(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	capture := exec.CommandContext(ctx, tool.Path, "diag", "capture", vm.Name, "--seconds", "3", "-o", "-")
	reader := exec.CommandContext(ctx, "tshark", "-r", "-", "-T", "fields", "-e", "scsi_sbc.rdwr10.lba")
	reader.Env = append(os.Environ(), "HOME="+t.TempDir())
	var err error
	if reader.Stdin, err = capture.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	reader.Stdout, capture.Stderr = &out, &errs
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // one of them comes once the capture has begun
		vm.sh(t, "echo 3 >/proc/sys/vm/drop_caches && dd if=/dev/sda of=/dev/null bs=4096 skip=40 count=1")
		time.Sleep(500 * time.Millisecond)
	}
	if err := reader.Wait(); err != nil || !slices.Contains(strings.Fields(out.String()), "320") {
		t.Errorf("tshark: %v: %s", err, &out)
	}
	if err := capture.Wait(); err != nil || !strings.Contains(errs.String(), "keel: captured ") {
		t.Errorf("keel diag capture: %v: %s", err, &errs)
	}
}
