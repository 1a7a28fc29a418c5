package vtpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"keel/vtpm"
	"keel/vtpm/vtpmtest"
)

// TestKill kills the worker at random moments while NV counters count and PCRs grow.
// Every command gets an answer; what succeeded stays, what failed did not happen.
func TestKill(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	store := &vtpmtest.Store{}
	tpm, w := vtpmtest.New(t, store)
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	counter(t, c)
	name := nvName(t, c)
	count := readCounter(t, c, name)
	model := readPCR(t, c, 16)

	end := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(rnd.IntN(60_000)) * time.Microsecond):
				syscall.Kill(w.Last().Pid(), syscall.SIGKILL)
			}
		}
	})
	failed, done := 0, 0
	for deadline := time.Now().Add(3 * time.Minute); tpm.Stats().Lost < uint64(rounds) && time.Now().Before(deadline); {
		switch err := increment(c, name); {
		case err == nil:
			count++
			done++
		case errors.Is(err, tpm2.TPMRCFailure):
			failed++
		default:
			t.Fatalf("NV_Increment: %v", err)
		}
		switch err := extendPCR(c, 16); {
		case err == nil:
			model = extended(model)
			done++
		case errors.Is(err, tpm2.TPMRCFailure):
			failed++
		default:
			t.Fatalf("PCR_Extend: %v", err)
		}
	}
	close(end)
	killer.Wait()
	// The last kill may still be under way.
	for range 3 {
		c.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8})
	}
	if got := readCounter(t, c, name); got != count {
		t.Errorf("counter is %d, %d increments were answered", got, count)
	}
	if got := readPCR(t, c, 16); !bytes.Equal(got, model) {
		t.Errorf("PCR 16 is %x, want %x", got, model)
	}
	s := tpm.Stats()
	if s.Lost < uint64(rounds) || failed == 0 {
		t.Errorf("%d workers were lost, %d commands failed", s.Lost, failed)
	}
	t.Logf("%d workers lost, %d commands done, %d failed", s.Lost, done, failed)
}

// TestRandomAfterRestart: a TPM that goes on from saved state does not repeat its random
// numbers.
func TestRandomAfterRestart(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	extend(t, c, 16)
	seen := map[string]bool{}
	for range 4 {
		r, err := (tpm2.GetRandom{BytesRequested: 16}).Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(r.RandomBytes.Buffer)] {
			t.Fatal("random numbers repeat")
		}
		seen[string(r.RandomBytes.Buffer)] = true
		// Killed while idle: no command is lost.
		w.Last().Kill()
	}
}

// TestRestartKeepsAll: sessions and loaded keys outlive the worker, and nothing is
// committed for its restart.
func TestRestartKeepsAll(t *testing.T) {
	store := &vtpmtest.Store{}
	tpm, w := vtpmtest.New(t, store)
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	key, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	session, end, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		t.Fatal(err)
	}
	commits := store.Commits()
	w.Last().Kill()
	if _, err := (tpm2.ReadPublic{ObjectHandle: key.ObjectHandle}).Execute(c); err != nil {
		t.Errorf("the key: %v", err)
	}
	if _, err := (tpm2.PolicyGetDigest{PolicySession: session.Handle()}).Execute(c); err != nil {
		t.Errorf("the session: %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if got := store.Commits(); got != commits {
		t.Errorf("%d commits", got-commits)
	}
}

// TestRepeat: PCRs outlive workers, also those whose last state is some extends old, and
// what depends on them does.
func TestRepeat(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	model := readPCR(t, c, 16)
	for i := range 150 { // more than are repeated at once
		extend(t, c, 16)
		if model = extended(model); i%40 != 7 {
			continue
		}
		w.Last().Kill()
		if i%80 == 7 {
			continue // the next command is an extend again
		}
		if got := readPCR(t, c, 16); !bytes.Equal(got, model) {
			t.Fatalf("PCR 16 after %d extends is %x, want %x", i+1, got, model)
		}
	}
	session, end, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, c, 16)
	w.Last().Kill()
	if got := readPCR(t, c, 16); !bytes.Equal(got, extended(model)) {
		t.Errorf("PCR 16 is %x, want %x", got, extended(model))
	}
	if _, err := (tpm2.PolicyGetDigest{PolicySession: session.Handle()}).Execute(c); err != nil {
		t.Errorf("a session before the extend: %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if err := tpm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	startup(t, c, tpm2.TPMSUClear)
	if got := readPCR(t, c, 16); !bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("PCR 16 after a reset is %x", got)
	}
	s := tpm.Stats()
	if s.Commands[uint32(tpm2.TPMCCPCRExtend)] != 151 || s.Failures != 0 || s.Lost != 5 {
		t.Errorf("%+v", s)
	}
}

// TestConfined looks at the release worker from outside.
func TestConfined(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	startup(t, vtpmtest.Conn{TPM: tpm}, tpm2.TPMSUClear)
	proc := filepath.Join("/proc", strconv.Itoa(w.Last().Pid()))

	tasks, err := os.ReadDir(filepath.Join(proc, "task"))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status := readStatus(t, filepath.Join(proc, "task", task.Name(), "status"))
		for field, want := range map[string]string{
			"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapAmb": "0000000000000000",
			"NoNewPrivs": "1", "Seccomp": "2", "Groups": "",
			"Uid": strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", vtpmtest.UserID+1), 4)),
			"Gid": strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", vtpmtest.UserID+1), 4)),
		} {
			if status[field] != want {
				t.Errorf("thread %s: %s is %q, want %q", task.Name(), field, status[field], want)
			}
		}
	}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel has none
		}
		if theirs, err := os.Readlink(filepath.Join(proc, "ns", ns)); err != nil || theirs == ours {
			t.Errorf("namespace %s is %s, %v", ns, theirs, err)
		}
	}
	root, err := os.ReadDir(filepath.Join(proc, "root") + "/")
	if err != nil || len(root) != 0 {
		t.Errorf("the root holds %v, %v", root, err)
	}
	if env, err := os.ReadFile(filepath.Join(proc, "environ")); err != nil || len(env) != 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	limits, err := os.ReadFile(filepath.Join(proc, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"Max core file size", "Max file size", "Max open files"} {
		i := strings.Index(string(limits), l)
		if i < 0 || strings.Fields(string(limits)[i+len(l):])[1] != "0" {
			t.Errorf("%s is not 0", l)
		}
	}
	var open []string
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		what, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		what, _, _ = strings.Cut(what, ":[0123456789")
		open = append(open, strings.TrimRight(what, "0123456789[]"))
	}
	slices.Sort(open)
	want := []string{"anon_inode:[eventfd", "anon_inode:[eventpoll", "pipe:", "socket:", "socket:"}
	if !slices.Equal(open, want) {
		t.Errorf("descriptors %q, want %q", open, want)
	}
	locked := readStatus(t, filepath.Join(proc, "status"))["VmLck"]
	if vtpmtest.CanLock() && locked == "0 kB" {
		t.Error("memory is not locked")
	}
}

func readStatus(tb testing.TB, path string) map[string]string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.Join(strings.Fields(v), " ")
	}
	return m
}

// extended is what an extend with zeros makes of a PCR (part 1 §17.2).
func extended(pcr []byte) []byte {
	sum := sha256.Sum256(append(bytes.Clone(pcr), make([]byte, sha256.Size)...))
	return sum[:]
}

// TestMemory: the worker stays within its bound when NV is full and keys were made.
func TestMemory(t *testing.T) {
	const bound = 14 << 10 // kB
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	indices := 0
	for ; indices < 200; indices++ {
		public := tpm2.TPMSNVPublic{
			NVIndex: nvIndex + tpm2.TPMHandle(indices), NameAlg: tpm2.TPMAlgSHA256, DataSize: 2048,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true},
		}
		if _, err := (tpm2.NVDefineSpace{AuthHandle: auth(tpm2.TPMRHOwner), PublicInfo: tpm2.New2B(public)}).Execute(c); err != nil {
			if !errors.Is(err, tpm2.TPMRCNVSpace) {
				t.Fatal(err)
			}
			break
		}
		name, err := (tpm2.NVReadPublic{NVIndex: public.NVIndex}).Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		for offset := uint16(0); offset < 2048; offset += 1024 {
			_, err := (tpm2.NVWrite{
				AuthHandle: auth(tpm2.TPMRHOwner), NVIndex: tpm2.NamedHandle{Handle: public.NVIndex, Name: name.NVName},
				Data: tpm2.TPM2BMaxNVBuffer{Buffer: bytes.Repeat([]byte{byte(indices)}, 1024)}, Offset: offset,
			}).Execute(c)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 5 {
		r, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate)}).Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		flush(t, c, uint32(r.ObjectHandle))
	}
	status := readStatus(t, fmt.Sprintf("/proc/%d/status", w.Last().Pid()))
	kb, err := strconv.Atoi(strings.TrimSuffix(status["VmHWM"], " kB"))
	if err != nil || kb > bound {
		t.Errorf("the worker needs %s, bound %d kB", status["VmHWM"], bound)
	}
	s := tpm.Stats()
	t.Logf("%d indices of 2 KiB, permanent state %d bytes, volatile %d, worker %d kB at most", indices, s.Permanent, s.Volatile, kb)
	// A full TPM starts again from its state.
	w.Last().Kill()
	if r, err := c.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8}); err != nil || vtpm.ResponseCode(r) != nil {
		t.Errorf("%x, %v", r, err)
	}
}
