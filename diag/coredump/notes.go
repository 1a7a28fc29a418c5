package coredump

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// struct elf_prstatus and elf_prpsinfo (Linux include/linux/elfcore.h) on x86-64: their
// sizes, and where what is known of them is. Registers are those of struct
// user_regs_struct (arch/x86/include/asm/user_64.h).
const (
	statusSize = 336
	statusPID  = 32
	statusRegs = 112

	regR10, regR9, regR8            = 7, 8, 9
	regRDX, regRSI, regRDI, regORAX = 12, 13, 14, 15
	regRIP, regRSP                  = 16, 19

	infoSize     = 136
	infoName     = 1 // pr_sname
	infoPID      = 24
	infoFile     = 40
	infoFileSize = 16
	infoArgs     = 56
	infoArgsSize = 80
)

// maxThreads bounds the threads that a core describes.
const maxThreads = 1024

// allNotes are the notes of this process.
func allNotes(areas []area) ([]byte, error) {
	pid := os.Getpid()
	command, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return nil, err
	}
	info := make([]byte, infoSize)
	info[infoName] = 'R'
	binary.LittleEndian.PutUint32(info[infoPID:], uint32(pid))
	args := strings.ReplaceAll(strings.TrimRight(string(command), "\x00"), "\x00", " ")
	copy(info[infoArgs:infoArgs+infoArgsSize-1], args)
	name, _, _ := strings.Cut(args, " ")
	copy(info[infoFile:infoFile+infoFileSize-1], filepath.Base(name))
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return nil, err
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	if len(threads) > maxThreads {
		return nil, fmt.Errorf("%d threads, more than %d", len(threads), maxThreads)
	}
	var b []byte
	for _, t := range threads {
		tid, err := strconv.ParseUint(t.Name(), 10, 32)
		if err != nil {
			return nil, err
		}
		where, _ := os.ReadFile("/proc/self/task/" + t.Name() + "/syscall") // it may have ended by now
		b = appendNote(b, ntPRStatus, status(uint32(tid), string(where)))
	}
	b = appendNote(b, ntPRPSInfo, info)
	b = appendNote(b, ntAuxv, auxv)
	return appendNote(b, ntFile, files(areas)), nil
}

// status describes a thread. where is what proc_pid_syscall(5) says of it: the number of
// a system call, its six arguments, stack pointer and instruction pointer, or that it
// runs: then its registers are zero.
func status(tid uint32, where string) []byte {
	s := make([]byte, statusSize)
	binary.LittleEndian.PutUint32(s[statusPID:], tid)
	fields := strings.Fields(where)
	if len(fields) != 9 {
		return s
	}
	for i, reg := range []int{regORAX, regRDI, regRSI, regRDX, regR10, regR8, regR9, regRSP, regRIP} {
		v, _ := strconv.ParseUint(fields[i], 0, 64) // 0 where a number is negative: not in a system call
		binary.LittleEndian.PutUint64(s[statusRegs+8*reg:], v)
	}
	return s
}

// files lists what areas map of files: how many, the unit of offsets, then start, end and
// offset of each, then their names.
func files(areas []area) []byte {
	var of []area
	for _, a := range areas {
		if a.file != "" {
			of = append(of, a)
		}
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(of)))
	b = binary.LittleEndian.AppendUint64(b, pageSize)
	for _, a := range of {
		for _, v := range []uint64{a.start, a.end, a.offset / pageSize} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	for _, a := range of {
		b = append(append(b, a.file...), 0)
	}
	return b
}
