package vtpm_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"keel/vtpm/vtpmtest"
)

// swtpm is swtpm behind its Unix socket.
type swtpm struct{ conn net.Conn }

func (s swtpm) Send(command []byte) ([]byte, error) {
	if _, err := s.conn.Write(command); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n, err := s.conn.Read(b)
	if err != nil {
		return nil, err
	}
	size := n
	if n >= 6 {
		size = int(binary.BigEndian.Uint32(b[2:]))
	}
	if size > len(b) {
		return nil, io.ErrShortBuffer
	}
	if n < size {
		if _, err := io.ReadFull(s.conn, b[n:size]); err != nil {
			return nil, err
		}
	}
	return b[:size], nil
}

func startSWTPM(b *testing.B) swtpm {
	b.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		b.Fatal("swtpm is not installed: make deps")
	}
	dir := b.TempDir()
	path := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+path, "--flags", "not-need-init")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		if conn, err := net.Dial("unix", path); err == nil {
			b.Cleanup(func() { conn.Close() })
			return swtpm{conn}
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatal("swtpm does not listen")
	return swtpm{}
}

// commandsOf defines what the commands need and returns their bytes.
func commandsOf(b *testing.B, c transport.TPM) map[string][]byte {
	b.Helper()
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(c); err != nil {
		b.Fatal(err)
	}
	_, err := (tpm2.NVDefineSpace{
		AuthHandle: auth(tpm2.TPMRHOwner),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: nvIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 64,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true},
		}),
	}).Execute(c)
	if err != nil {
		b.Fatal(err)
	}
	name, err := (tpm2.NVReadPublic{NVIndex: nvIndex}).Execute(c)
	if err != nil {
		b.Fatal(err)
	}
	index := tpm2.NamedHandle{Handle: nvIndex, Name: name.NVName}
	key := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}
	record := func(do func(transport.TPM)) []byte {
		r := &recorder{}
		do(r)
		return r.command
	}
	return map[string][]byte{
		"GetRandom":  record(func(r transport.TPM) { tpm2.GetRandom{BytesRequested: 16}.Execute(r) }),
		"PCR_Extend": record(func(r transport.TPM) { extendWith(r, 16) }),
		"PCR_Read": record(func(r transport.TPM) {
			tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(16)},
			}}}.Execute(r)
		}),
		"NV_Write": record(func(r transport.TPM) {
			tpm2.NVWrite{AuthHandle: auth(tpm2.TPMRHOwner), NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: bytes.Repeat([]byte{7}, 64)}}.Execute(r)
		}),
		"NV_Read": record(func(r transport.TPM) {
			tpm2.NVRead{AuthHandle: auth(tpm2.TPMRHOwner), NVIndex: index, Size: 64}.Execute(r)
		}),
		"CreatePrimary P-256": record(func(r transport.TPM) { key.Execute(r) }),
	}
}

func extendWith(c transport.TPM, pcr uint32) {
	tpm2.PCRExtend{
		PCRHandle: auth(tpm2.TPMHandle(pcr)),
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(c)
}

// BenchmarkBeside runs the same commands in the worker and in swtpm, in turn. Its
// metrics are medians in µs, and ours by theirs.
func BenchmarkBeside(b *testing.B) {
	tpm, _ := vtpmtest.New(b, &vtpmtest.Store{})
	ours, theirs := vtpmtest.Conn{TPM: tpm}, startSWTPM(b)
	commands := commandsOf(b, ours)
	commandsOf(b, theirs)
	for name, command := range commands {
		b.Run(name, func(b *testing.B) {
			var us, them []time.Duration
			for b.Loop() {
				if name == "NV_Write" {
					// Data that is there already is not written; the offset follows it.
					command[len(command)-3]++
				}
				us = append(us, timed(b, ours, command))
				them = append(them, timed(b, theirs, command))
			}
			slices.Sort(us)
			slices.Sort(them)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(us[len(us)/2].Nanoseconds())/1e3, "worker-µs")
			b.ReportMetric(float64(them[len(them)/2].Nanoseconds())/1e3, "swtpm-µs")
			b.ReportMetric(float64(us[len(us)/2])/float64(them[len(them)/2]), "ratio")
		})
	}
}

func timed(b *testing.B, c transport.TPM, command []byte) time.Duration {
	b.Helper()
	start := time.Now()
	r, err := c.Send(command)
	d := time.Since(start)
	if err != nil || len(r) < 10 || binary.BigEndian.Uint32(r[6:]) != 0 {
		b.Fatalf("%x, %v", r, err)
	}
	if len(r) > 14 && binary.BigEndian.Uint32(command[6:]) == 0x131 {
		flushed := append([]byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65}, r[10:14]...)
		if _, err := c.Send(flushed); err != nil {
			b.Fatal(err)
		}
	}
	return d
}
