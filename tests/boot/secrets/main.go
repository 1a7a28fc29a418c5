// Command secrets runs in a guest. It hides markers (package marker) where only the guest
// may see them, and stays.
//
// Its argument is the seed. It says "KEEL-GUEST note hidden PLACE" for each.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-tpm/legacy/tpm2"
	"golang.org/x/sys/unix"

	"keel/tests/boot/marker"
)

const (
	deviceTPM  = "/dev/tpm0"
	deviceDisk = "/dev/sda"

	index = 0x1500021 // of the owner's, TCG Registry of Reserved TPM 2.0 Handles
	block = 4096      // bytes

	spinning = "spin" // the argument of the process whose registers have a marker
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: secrets SEED")
		os.Exit(2)
	}
	if os.Args[1] == spinning {
		spin()
	}
	if err := hide(os.Args[1]); err != nil {
		fmt.Println("KEEL-GUEST result FAIL secrets", err)
		os.Exit(1)
	}
}

// hide puts a marker in each place and stays.
func hide(seed string) error {
	page := bytes.Repeat(of(seed, marker.Memory), block/marker.Size)
	for place, hide := range map[marker.Place]func([]byte) error{
		marker.Memory: func([]byte) error { return nil }, marker.Registers: registers, marker.TPM: nv, marker.Disk: disk,
		marker.Console: func(m []byte) error { _, err := fmt.Printf("%x\n", m); return err },
	} {
		if err := hide(of(seed, place)); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		fmt.Println("KEEL-GUEST note hidden", place)
	}
	// What crosses the disk has a marker from now on.
	for {
		if err := disk(of(seed, marker.Disk)); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
		runtime.KeepAlive(page)
	}
}

func of(seed string, p marker.Place) []byte {
	m := marker.Of(seed, p)
	return m[:]
}

// nv writes an NV index.
func nv(m []byte) error {
	tpm, err := tpm2.OpenTPM(deviceTPM)
	if err != nil {
		return err
	}
	defer tpm.Close()
	const attributes = tpm2.AttrOwnerRead | tpm2.AttrOwnerWrite
	if err := tpm2.NVDefineSpace(tpm, tpm2.HandleOwner, index, "", "", nil, attributes, uint16(len(m))); err != nil {
		return err
	}
	return tpm2.NVWrite(tpm, tpm2.HandleOwner, index, "", m, 0)
}

// disk writes a block in the middle of a disk, and has the disk keep it.
func disk(m []byte) error {
	f, err := os.OpenFile(deviceDisk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat(m, block/len(m)), 1<<20)
	return errors.Join(err, f.Close())
}

// registers starts a process that uses no registers, and fills some of its.
func registers(m []byte) error {
	runtime.LockOSThread() // who traces is a thread (ptrace(2))
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", spinning)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1") // nothing else may run there
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := make([]byte, 32)
	n, err := out.Read(said)
	if err != nil {
		return err
	}
	thread, err := strconv.Atoi(strings.TrimSpace(string(said[:n])))
	if err != nil {
		return err
	}
	if err := unix.PtraceAttach(thread); err != nil {
		return err
	}
	if _, err := unix.Wait4(thread, nil, unix.WALL, nil); err != nil {
		return err
	}
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &r); err != nil {
		return err
	}
	for i, into := range []*uint64{&r.R15, &r.R14, &r.R13, &r.R12} {
		*into = binary.LittleEndian.Uint64(m[8*i:])
	}
	return errors.Join(unix.PtraceSetRegs(thread, &r), unix.PtraceDetach(thread))
}

// spin says which thread it is and stays in a loop that needs no registers.
func spin() {
	runtime.LockOSThread()
	fmt.Println(unix.Gettid())
	time.Sleep(100 * time.Millisecond) // for the runtime to settle
again:
	goto again
}
