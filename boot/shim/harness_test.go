package shim_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"keel/boot/layout"
)

const pageSize = 4096

// harness is the shim's logic as a program of the host, built with the
// address and undefined behaviour sanitizers: a fault ends it, and the test.
type harness struct {
	in     io.WriteCloser
	out    *bufio.Reader
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// harnessPath is where TestMain put the program.
var harnessPath string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keel-shim-test-")
	if err != nil {
		panic(err)
	}
	harnessPath = filepath.Join(dir, "harness")
	out, err := exec.Command("gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Isrc",
		"-o", harnessPath, "testdata/harness.c", "src/logic.c").CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("gcc: %v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func startHarness(tb testing.TB) *harness {
	tb.Helper()
	h := &harness{cmd: exec.Command(harnessPath)}
	h.cmd.Stderr = &h.stderr
	var err error
	h.in, err = h.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	h.out = bufio.NewReader(stdout)
	if err := h.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		h.in.Close()
		if err := h.cmd.Wait(); err != nil {
			tb.Errorf("harness: %v\n%s", err, h.stderr.Bytes())
		}
	})
	return h
}

// ask sends a request and reads an answer of n bytes.
func (h *harness) ask(tb testing.TB, n int, op byte, inputs ...any) []byte {
	tb.Helper()
	req := []byte{op}
	for _, v := range inputs {
		var err error
		if req, err = binary.Append(req, binary.LittleEndian, v); err != nil {
			tb.Fatal(err)
		}
	}
	answer := make([]byte, n)
	_, err := h.in.Write(req)
	if err == nil {
		_, err = io.ReadFull(h.out, answer)
	}
	if err != nil {
		tb.Fatalf("harness: %v\n%s", err, h.stderr.Bytes())
	}
	return answer
}

// mapEntry is an entry of IGVM's memory map.
type mapEntry struct {
	Page, Pages uint64
	Kind, Flags uint16
	Reserved    uint32
}

// request is what shim_build gets.
type request struct {
	info        layout.Info
	memory      []mapEntry
	vps         uint32
	hostCmdline string
	cmdline     string
	rsdp        uint64
	emulated    uint32
}

// answer is what shim_build gives.
type answer struct {
	reason              uint32
	bootParams, handoff []byte
	cmdline             []byte
}

// padded returns b in n bytes.
func padded(b []byte, n int) []byte {
	return append(bytes.Clone(b[:min(len(b), n)]), make([]byte, max(0, n-len(b)))...)
}

func (h *harness) build(tb testing.TB, r request) answer {
	tb.Helper()
	memory, err := binary.Append(nil, binary.LittleEndian, r.memory)
	if err != nil {
		tb.Fatal(err)
	}
	const hostBytes = 8 + 2048
	host := padded(append(make([]byte, 8), r.hostCmdline...), hostBytes)
	b := h.ask(tb, 4+3*pageSize, 'B', &r.info, padded(memory, pageSize), r.vps, host, padded([]byte(r.cmdline), 2048), r.rsdp, r.emulated)
	return answer{
		reason: binary.LittleEndian.Uint32(b), bootParams: b[4:][:pageSize],
		handoff: b[4+pageSize:][:pageSize], cmdline: b[4+2*pageSize:],
	}
}
