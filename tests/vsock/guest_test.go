package vsock

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	diagvsock "keel/diag/vsock"
)

// The ports on which the guest of TestQEMU listens.
const (
	portEcho   = 1024 + iota // gives back what it gets
	portSink                 // compares what it gets with the pattern
	portSource               // sends as much as the first 8 bytes say
	portDial                 // dials the host: the first 8 bytes are a port and a number of times
	portOff                  // powers the guest off
)

// envClient makes the test binary a client that talks to the guest's echo without
// end; its value is the socket.
const envClient = "KEEL_VSOCK_CLIENT"

// TestMain makes the test binary the guest of TestQEMU when it is PID 1.
func TestMain(m *testing.M) {
	if path := os.Getenv(envClient); path != "" {
		os.Exit(endless(path))
	}
	if os.Getpid() == 1 {
		if err := guestMain(); err != nil {
			fmt.Println("guest:", err)
		}
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		select {} // PID 1 must not end
	}
	os.Exit(m.Run())
}

// pattern is n bytes that both sides know.
func pattern(n int) []byte {
	b := make([]byte, n)
	random := rand.NewPCG(3, 4)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b
}

// known is the guest's pattern.
var known []byte

// guestMain serves until it is told to stop.
func guestMain() error {
	known = pattern(bulk)
	end := make(chan error)
	for port, serve := range map[uint32]func(*os.File) error{
		portEcho: echo, portSink: sink, portSource: source, portDial: dialHost,
		portOff: func(*os.File) error { close(end); return nil },
	} {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
			return err
		}
		if err := unix.Listen(fd, 128); err != nil {
			return err
		}
		go func() {
			for {
				c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err != nil {
					fmt.Println("guest: accept:", err)
					continue
				}
				go func() {
					f := os.NewFile(uintptr(c), "vsock")
					defer f.Close()
					if err := serve(f); err != nil {
						fmt.Println("guest: port", port, err)
					}
				}()
			}
		}()
	}
	fmt.Println("guest: ready")
	return <-end
}

func echo(f *os.File) error {
	b := make([]byte, 32<<10)
	for {
		n, err := f.Read(b)
		if n == 0 || err != nil {
			return nil // clients may be killed
		}
		if _, err := f.Write(b[:n]); err != nil {
			return nil
		}
	}
}

// sink wants the pattern, and answers with the number of bytes that came before
// the end, or before one that was wrong.
func sink(f *os.File) error {
	b := make([]byte, 64<<10)
	good := 0
	for {
		n, err := f.Read(b)
		if n > 0 && (good+n > len(known) || !bytes.Equal(b[:n], known[good:good+n])) {
			break
		}
		good += n
		if err == io.EOF || n == 0 {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := f.Write(binary.LittleEndian.AppendUint64(nil, uint64(good)))
	return err
}

func source(f *os.File) error {
	var n [8]byte
	if _, err := io.ReadFull(f, n[:]); err != nil {
		return err
	}
	_, err := f.Write(known[:binary.LittleEndian.Uint64(n[:])])
	return err
}

// dialHost connects to a port of the host, which echoes, again and again, and
// answers with how often it went well.
func dialHost(f *os.File) error {
	var order [8]byte
	if _, err := io.ReadFull(f, order[:]); err != nil {
		return err
	}
	port, times, good := binary.LittleEndian.Uint32(order[:]), binary.LittleEndian.Uint32(order[4:]), uint32(0)
	for i := range times {
		c, err := diagvsock.DialHost(context.Background(), port)
		if err != nil {
			fmt.Println("guest: dial:", err)
			continue
		}
		said := fmt.Sprintf("message %d from the guest", i)
		heard := make([]byte, len(said))
		_, err = c.Write([]byte(said))
		if err == nil {
			_, err = io.ReadFull(c, heard)
		}
		c.Close()
		if err == nil && string(heard) == said {
			good++
		}
	}
	_, err := f.Write(binary.LittleEndian.AppendUint32(nil, good))
	return err
}
