package vsock

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/qemu/vsock"
	"keel/initramfs"
	"keel/kernelcfg"
)

const (
	root = "../.." // of the module

	qemuPatience = 4 * time.Minute
	bulk         = 64 << 20
)

// machine is a VM whose /init is this test binary.
type machine struct {
	t       *testing.T
	device  *vsock.Device
	path    string
	served  chan error
	cmd     *exec.Cmd
	monitor *os.File
	console bytes.Buffer
}

// startMachine boots QEMU with the device, as the launcher does.
func startMachine(t *testing.T) *machine {
	t.Helper()
	kernel, err := kernelcfg.Build(t.Context(), kernelcfg.Release)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := &machine{t: t, path: filepath.Join(dir, "vm"), served: make(chan error, 1)}
	if m.device, err = vsock.New(vsock.Options{CID: 42, Path: m.path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.device.Close(); err != nil {
			t.Error(err)
		}
	})
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.monitor = os.NewFile(uintptr(pair[0]), "monitor")
	theirs := os.NewFile(uintptr(pair[1]), "monitor")
	go io.Copy(io.Discard, m.monitor)
	go func() { m.served <- m.device.Serve(context.Background()) }()

	const size = 256 << 20
	args := slices.Concat([]string{
		"-nodefaults", "-no-user-config", "-display", "none",
		// QEMU before 8.1 needs the VPs in one thread: see boot/qemu.
		"-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "EPYC-Rome", "-smp", "2", "-m", "256M",
		"-serial", "stdio", "-kernel", kernel, "-initrd", guestInitrd(t, dir),
		"-append", "console=ttyS0 quiet tsc=reliable no_timer_check panic=-1",
		"-chardev", "socket,id=mon,fd=4", "-mon", "chardev=mon,mode=readline",
	}, vsock.MemoryArgs(size), m.device.QEMUArgs(3))
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	m.cmd.ExtraFiles = []*os.File{m.device.Peer(), theirs}
	m.cmd.Stdout, m.cmd.Stderr = &m.console, &m.console
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.device.Peer().Close()
	theirs.Close()
	t.Cleanup(func() { m.cmd.Process.Kill(); m.cmd.Wait(); m.monitor.Close() })
	return m
}

// guestInitrd packs this test binary, built static, as /init.
func guestInitrd(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "init")
	if err := initramfs.CompileTest(t.Context(), root, "keel/tests/vsock", binary); err != nil {
		t.Fatal(err)
	}
	archive, err := initramfs.ProgramInitrd(binary)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initrd")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// connect is a client's handshake.
func (m *machine) connect(port int) (*net.UnixConn, error) { return connect(m.path, port) }

func connect(path string, port int) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(qemuPatience))
	if _, err = fmt.Fprintf(c, "CONNECT %d\n", port); err == nil {
		var line []byte
		b := make([]byte, 1)
		for !bytes.HasSuffix(line, []byte("\n")) && err == nil {
			_, err = io.ReadFull(c, b)
			line = append(line, b...)
		}
		if err == nil && !bytes.HasPrefix(line, []byte("OK ")) {
			err = fmt.Errorf("answer %q", line)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// must is connect that cannot fail.
func (m *machine) must(port int) *net.UnixConn {
	m.t.Helper()
	c, err := m.connect(port)
	if err != nil {
		m.fatal("port %d: %v", port, err)
	}
	return c
}

func (m *machine) fatal(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%+v", fmt.Sprintf(format, args...), m.device.Stats())
}

// ready waits for the guest.
func (m *machine) ready() time.Duration {
	m.t.Helper()
	began := time.Now()
	for {
		c, err := m.connect(portEcho)
		if err == nil {
			c.Close()
			return time.Since(began)
		}
		select {
		case err := <-m.served:
			m.cmd.Process.Kill()
			m.cmd.Wait()
			m.fatal("Serve: %v\n%s", err, m.console.String())
		default:
		}
		if time.Since(began) > qemuPatience {
			m.cmd.Process.Kill()
			m.cmd.Wait()
			m.fatal("the guest does not come up: %v\n%s", err, m.console.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// echoes sends bytes and wants them back.
func echoes(c net.Conn, b []byte) error {
	go c.Write(b)
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return errors.New("other bytes came back")
	}
	return nil
}

// TestQEMU runs the device with a real QEMU and a real Linux driver.
func TestQEMU(t *testing.T) {
	m := startMachine(t)
	t.Logf("the guest was up after %v", m.ready())

	step := func(name string, run func() string) {
		began := time.Now()
		said := run()
		t.Logf("%s: %v %s", name, time.Since(began).Round(time.Millisecond), said)
	}
	step("100 connections in turn", func() string {
		for i := range 100 {
			c := m.must(portEcho)
			if err := echoes(c, fmt.Appendf(nil, "message %d", i)); err != nil {
				m.fatal("connection %d: %v", i, err)
			}
			c.Close()
		}
		return ""
	})
	step("round trips", func() string {
		c := m.must(portEcho)
		defer c.Close()
		times := make([]time.Duration, 500)
		b := make([]byte, 1)
		for i := range times {
			began := time.Now()
			c.Write(b)
			if _, err := io.ReadFull(c, b); err != nil {
				m.fatal("%v", err)
			}
			times[i] = time.Since(began)
		}
		slices.Sort(times)
		return fmt.Sprintf("(median %v, 95%% %v)", times[len(times)/2], times[len(times)*95/100])
	})
	step("32 connections at once", func() string {
		m.parallel(32, func(i int) error {
			c, err := m.connect(portEcho)
			if err != nil {
				return err
			}
			defer c.Close()
			return echoes(c, bytes.Repeat([]byte{byte(i), byte(i >> 4), 7}, 100_000))
		})
		return ""
	})
	data := pattern(bulk)
	rate := func(began time.Time) string {
		return fmt.Sprintf("(%.1f MiB/s)", bulk/(1<<20)/time.Since(began).Seconds())
	}
	step("64 MiB to the guest", func() string {
		c := m.must(portSink)
		defer c.Close()
		began := time.Now()
		if _, err := c.Write(data); err != nil {
			m.fatal("%v", err)
		}
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, binary.LittleEndian.AppendUint64(nil, bulk)) {
			m.fatal("the guest got other bytes: % x, %v", got, err)
		}
		return rate(began)
	})
	step("64 MiB from the guest", func() string {
		c := m.must(portSource)
		defer c.Close()
		began := time.Now()
		c.Write(binary.LittleEndian.AppendUint64(nil, bulk))
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			m.fatal("%d bytes came, or others: %v", len(got), err)
		}
		return rate(began)
	})
	step("killed clients", func() string { m.killClients(); return "" })
	step("64 connections by the guest", func() string { m.guestDials(64); return "" })
	step("pause", func() string { m.pause(); return "" })
	m.until("connections stay", func(s vsock.Stats) bool { return s.Open == 0 })
	if s := m.device.Stats(); s.BadPackets+s.Broken+s.TimedOut+s.DroppedResets != 0 {
		t.Errorf("%+v", s)
	}
	step("reset", func() string {
		c := m.must(portEcho)
		defer c.Close()
		m.command("system_reset")
		// Before that the guest from before the reset may still answer.
		c.SetDeadline(time.Now().Add(qemuPatience))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			m.fatal("a connection outlived its guest: %v", err)
		}
		return fmt.Sprintf("(up after %v)", m.ready())
	})
	step("power-off", func() string {
		if c, err := m.connect(portOff); err == nil {
			c.Close()
		}
		if err := <-m.served; err != nil {
			t.Error(err)
		}
		return ""
	})
	m.cmd.Wait()
	t.Logf("%+v", m.device.Stats())
}

// parallel runs a function n times at once.
func (m *machine) parallel(n int, run func(int) error) {
	m.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = run(i) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		m.fatal("%v", err)
	}
}

// endless is what a client does that will be killed.
func endless(path string) int {
	c, err := connect(path, portEcho)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("talking")
	go io.Copy(io.Discard, struct{ io.Reader }{c})
	for b := make([]byte, 10_000); ; {
		if _, err := c.Write(b); err != nil {
			return 1
		}
	}
}

// killClients kills processes amid their talk, while another one must not notice.
func (m *machine) killClients() {
	m.t.Helper()
	survivor := m.must(portEcho)
	defer survivor.Close()
	for round := range 4 {
		var clients []*exec.Cmd
		for range 3 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envClient+"="+m.path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				m.fatal("%v", err)
			}
			if err := cmd.Start(); err != nil {
				m.fatal("%v", err)
			}
			line := make([]byte, 64)
			if n, _ := out.Read(line); !strings.HasPrefix(string(line[:n]), "talking") {
				m.fatal("a client says %q", line[:n])
			}
			clients = append(clients, cmd)
		}
		if err := echoes(survivor, pattern(200_000)); err != nil {
			m.fatal("round %d: %v", round, err)
		}
		for _, cmd := range clients {
			cmd.Process.Kill()
			cmd.Wait()
		}
		if err := echoes(survivor, pattern(200_000)); err != nil {
			m.fatal("round %d: %v", round, err)
		}
	}
	m.until("killed clients stay", func(s vsock.Stats) bool { return s.Open == 1 })
}

// guestDials lets the guest connect to an echo on the host, from 4 processes' worth
// of connections at once, and to a port where nobody is.
func (m *machine) guestDials(times int) {
	m.t.Helper()
	l, err := net.Listen("unix", m.path+"_7000")
	if err != nil {
		m.fatal("%v", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, struct{ io.Reader }{c})
				c.Close()
			}()
		}
	}()
	dial := func(port, n uint32) (uint32, error) {
		c, err := m.connect(portDial)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		c.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, port), n))
		var good [4]byte
		_, err = io.ReadFull(c, good[:])
		return binary.LittleEndian.Uint32(good[:]), err
	}
	m.parallel(4, func(int) error {
		n := uint32(times / 4)
		good, err := dial(7000, n)
		if err == nil && good != n {
			err = fmt.Errorf("%d of %d went well", good, n)
		}
		return err
	})
	if good, err := dial(7001, 3); err != nil || good != 0 {
		m.fatal("%d connections to nobody: %v", good, err)
	}
}

// command tells QEMU's monitor to do something.
func (m *machine) command(line string) {
	m.t.Helper()
	if _, err := m.monitor.WriteString(line + "\n"); err != nil {
		m.fatal("%v", err)
	}
}

// pause stops the VM with connections open.
func (m *machine) pause() {
	m.t.Helper()
	c := m.must(portEcho)
	defer c.Close()
	messages := m.device.Stats().Messages
	m.command("stop")
	m.until("QEMU does not stop the rings", func(s vsock.Stats) bool { return s.Messages > messages })
	time.Sleep(300 * time.Millisecond)
	go func() {
		time.Sleep(300 * time.Millisecond)
		m.monitor.WriteString("cont\n")
	}()
	if err := echoes(c, pattern(300_000)); err != nil {
		m.fatal("after a pause: %v", err)
	}
}

func (m *machine) until(what string, ok func(vsock.Stats) bool) {
	m.t.Helper()
	for end := time.Now().Add(qemuPatience); !ok(m.device.Stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			m.fatal("%s", what)
		}
	}
}
