package boot

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// symbol is one of the guest's kernel, as it runs.
type symbol struct {
	name      string
	at, bytes uint64
}

// Symbols of the guest's kernel that the tests need: a system call that a shell makes when
// it is told to, what calls it, and a text.
const (
	symUname   = "__x64_sys_newuname"
	symSyscall = "do_syscall_64"
	symBanner  = "linux_banner"
)

// symbols asks the guest where its kernel is. The debug information of Debian's kernel is
// in a package of its own, of a gigabyte.
func (vm *diagVM) symbols(t *testing.T) map[string]symbol {
	t.Helper()
	found := map[string]symbol{}
	for _, name := range []string{symUname, symSyscall, symBanner} {
		vm.Send(t, fmt.Sprintf("echo; grep -A1 ' %s$' /proc/kallsyms\r", name))
		m := vm.Match(t, `\n([0-9a-f]{16}) \w `+name+`\r\n([0-9a-f]{16}) `)
		at, err := strconv.ParseUint(m[0], 16, 64)
		if err != nil || at < 1<<63 {
			t.Fatalf("%s is at %s: %v", name, m[0], err)
		}
		end, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = symbol{name, at, max(end, at+1) - at}
		vm.Expect(t, "keel-guest:/# ")
	}
	return found
}

// vmlinux writes a kernel for gdb: nothing but symbols.
func vmlinux(t *testing.T, symbols map[string]symbol) string {
	t.Helper()
	names, table := bytes.NewBufferString("\x00"), new(bytes.Buffer)
	put := func(w io.Writer, v any) {
		if err := binary.Write(w, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	named := func(s string) uint32 {
		at := names.Len()
		names.WriteString(s + "\x00")
		return uint32(at)
	}
	put(table, elf.Sym64{})
	first, last := ^uint64(0), uint64(0)
	for _, s := range symbols {
		info := byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC)
		put(table, elf.Sym64{Name: named(s.name), Info: info, Shndx: 1, Value: s.at, Size: s.bytes})
		first, last = min(first, s.at), max(last, s.at+s.bytes)
	}
	text, symtab, strtab := named(".text"), named(".symtab"), named(".strtab")
	const header, section = 64, 64
	sections := []elf.Section64{
		{},
		{Name: text, Type: uint32(elf.SHT_NOBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Addr: first, Size: last - first, Addralign: 16},
		{Name: symtab, Type: uint32(elf.SHT_SYMTAB), Link: 3, Info: 1, Size: uint64(table.Len()), Entsize: elf.Sym64Size, Addralign: 8},
		{Name: strtab, Type: uint32(elf.SHT_STRTAB), Size: uint64(names.Len()), Addralign: 1},
	}
	sections[2].Off = header + section*uint64(len(sections))
	sections[3].Off = sections[2].Off + sections[2].Size
	var file bytes.Buffer
	put(&file, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: header, Ehsize: header, Shentsize: section, Shnum: uint16(len(sections)), Shstrndx: 3,
	})
	put(&file, sections)
	file.Write(table.Bytes())
	file.Write(names.Bytes())
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// commands are arguments of a gdb that executes some and ends.
func commands(lines ...string) []string {
	args := []string{"-nx", "-batch"}
	for _, line := range lines {
		args = append(args, "-ex", line)
	}
	return args
}

// gdb runs Debian's gdb and returns what it has printed.
func gdb(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gdb", args...).CombinedOutput()
	if err != nil {
		t.Errorf("gdb %q: %v", args, err)
	}
	return string(out)
}

// rips are the instruction pointers of all threads as a gdb has printed them.
func rips(said string) []string {
	all := regexp.MustCompile(`(?m)^\$\d+ = (0xffff[0-9a-f]{12})$`).FindAllStringSubmatch(said, -1)
	var out []string
	for _, m := range all {
		out = append(out, m[1])
	}
	return out
}

// dumps: a dump has the guest's memory where its kernel has it, and the registers of a
// guest that stands, as a debugger sees them.
func (vm *diagVM) dumps(t *testing.T) {
	symbols := vm.symbols(t)
	kernel, core := vmlinux(t, symbols), filepath.Join(t.TempDir(), "core")
	vm.diag(t, "pause")
	began := time.Now()
	t.Logf("%sthe dump took %v", vm.diag(t, "dump", "-o", core), time.Since(began).Round(10*time.Millisecond))
	if paused := look(t, vm.Name, "paused").Value; paused != true {
		t.Error("the dump has ended a pause")
	}
	vm.failed(t, handoff.OutcomeUsage, "exist", "diag", "dump", vm.Name, "-o", core)
	where := []string{"thread apply all -q p/x $rip", fmt.Sprintf("x/s %#x", symbols[symBanner].at)}
	dead := gdb(t, slices.Concat(commands(where...), []string{"-c", core, kernel})...)
	live := vm.gdb(t, kernel, where...)
	if got, want := rips(dead), rips(live); len(got) != vm.VPs || !slices.Equal(got, want) {
		t.Errorf("the dump has its VPs at %v, the debugger at %v:\n%s\n%s", got, want, dead, live)
	}
	for _, said := range []string{dead, live} {
		if !strings.Contains(said, `"Linux version 6.1`) {
			t.Errorf("no banner where the kernel has it:\n%s", said)
		}
	}
	// Of a guest that runs, which goes on.
	core += "-2"
	vm.diag(t, "dump", "-o", core)
	if said := gdb(t, slices.Concat(commands(where...), []string{"-c", core, kernel})...); !strings.Contains(said, `"Linux version 6.1`) {
		t.Errorf("%s", said)
	}
	vm.Send(t, "echo $((6*7))\r")
	vm.Expect(t, "42\r\n")
}

// gdb lets the tool start gdb.
func (vm *diagVM) gdb(t *testing.T, kernel string, lines ...string) string {
	t.Helper()
	return vm.diag(t, "gdb", slices.Concat([]string{"--exec", "--"}, commands(append(lines, "detach")...), []string{kernel})...)
}

// debugged: gdb stops the guest in its kernel, sees who has called, steps, and goes on;
// the guest does not notice.
func (vm *diagVM) debugged(t *testing.T) {
	symbols := vm.symbols(t)
	kernel := vmlinux(t, symbols)
	vm.Send(t, "while sleep 0.1 && uname; do :; done\r")
	vm.Expect(t, "Linux\r\n")
	for _, command := range []string{"break", "hbreak"} {
		said := vm.gdb(t, kernel, "info threads", command+" *"+symUname, "continue", "p/x $rip", "bt 2", "stepi", "p/x $rip", "continue", "p/x $rip",
			"p/x $cr3", "p/x $cs", "delete", "stepi", "stepi", fmt.Sprintf("x/i %#x", symbols[symUname].at))
		t.Logf("%s", said)
		at := rips(said)
		entry := fmt.Sprintf("%#x", symbols[symUname].at)
		if len(at) != 3 || at[0] != entry || at[1] == entry || at[2] != entry {
			t.Errorf("stopped at %v, want %s", at, entry)
		}
		for _, want := range []string{"VP 0", "Breakpoint 1, ", symUname, " in " + symSyscall, "= 0x10\n"} {
			if !strings.Contains(said, want) {
				t.Errorf("gdb did not say %q", want)
			}
		}
		if strings.Contains(said, "\thlt") {
			t.Error("the breakpoint is to be seen")
		}
		vm.Expect(t, "Linux\r\n")
		vm.Expect(t, "Linux\r\n")
	}
	// One that goes without a word leaves the guest as one that detaches.
	vm.hangsUp(t, symbols[symUname].at, symbols[symBanner].at)
	for range 5 {
		vm.Expect(t, "Linux\r\n")
	}
	vm.prompt(t)
	vm.failed(t, handoff.OutcomeUsage, "loopback", "diag", "gdb", vm.Name, "--listen", "0.0.0.0:1234")
}

// hangsUp is a debugger that plants breakpoints, one of them where nothing runs, stops the
// guest with Ctrl-C, comes to the other one, and is gone.
func (vm *diagVM) hangsUp(t *testing.T, at, never uint64) {
	t.Helper()
	conn, err := vm.dial(t).Debug(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, args := range [][]string{{"gdb"}, {"pause"}, {"resume"}, {"dump", "-o", filepath.Join(t.TempDir(), "core")}} {
		vm.failed(t, handoff.OutcomeBadConfig, "a debugger", append([]string{"diag", args[0], vm.Name}, args[1:]...)...)
	}
	if err := conn.SetDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	ask := func(sent, want string) {
		t.Helper()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for !bytes.Contains(got, []byte(want)) {
			b := make([]byte, 100)
			n, err := conn.Read(b)
			if got = append(got, b[:n]...); err != nil {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
	}
	packet := func(data string) string {
		var sum byte
		for _, b := range []byte(data) {
			sum += b
		}
		return fmt.Sprintf("$%s#%02x", data, sum)
	}
	ask(packet("?"), "T05")
	ask(packet(fmt.Sprintf("Z0,%x,1", never)), "$OK")
	ask(packet("c"), "+")
	vm.Expect(t, "Linux\r\n")
	ask("\x03", "T02")
	ask(packet(fmt.Sprintf("Z0,%x,1", at)), "$OK")
	ask(packet("c"), "T05")
}
