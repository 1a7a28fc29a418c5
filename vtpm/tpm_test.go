package vtpm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"keel/paravisor/worker"
	"keel/vtpm"
	"keel/vtpm/vtpmtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	vtpmtest.Remove()
	os.Exit(code)
}

func startup(tb testing.TB, c vtpmtest.Conn, su tpm2.TPMSU) {
	tb.Helper()
	if _, err := (tpm2.Startup{StartupType: su}).Execute(c); err != nil {
		tb.Fatalf("Startup(%d): %v", su, err)
	}
}

func auth(h tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}
}

func extend(tb testing.TB, c vtpmtest.Conn, pcr uint32) {
	tb.Helper()
	if err := extendPCR(c, pcr); err != nil {
		tb.Fatalf("PCR_Extend(%d): %v", pcr, err)
	}
}

func extendPCR(c vtpmtest.Conn, pcr uint32) error {
	_, err := (tpm2.PCRExtend{
		PCRHandle: auth(tpm2.TPMHandle(pcr)),
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}).Execute(c)
	return err
}

func readPCR(tb testing.TB, c vtpmtest.Conn, pcr uint) []byte {
	tb.Helper()
	r, err := (tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)},
	}}}).Execute(c)
	if err != nil || len(r.PCRValues.Digests) != 1 {
		tb.Fatalf("PCR_Read(%d): %v", pcr, err)
	}
	return r.PCRValues.Digests[0].Buffer
}

const nvIndex = tpm2.TPMHandle(0x01800001)

// counter defines an NV index of a kind and writes or increments it once.
func counter(tb testing.TB, c vtpmtest.Conn) {
	tb.Helper()
	_, err := (tpm2.NVDefineSpace{
		AuthHandle: auth(tpm2.TPMRHOwner),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: nvIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NT: tpm2.TPMNTCounter, NoDA: true},
		}),
	}).Execute(c)
	if err != nil {
		tb.Fatalf("NV_DefineSpace: %v", err)
	}
	if err := increment(c, nvName(tb, c)); err != nil {
		tb.Fatalf("NV_Increment: %v", err)
	}
}

func nvName(tb testing.TB, c vtpmtest.Conn) tpm2.TPM2BName {
	tb.Helper()
	p, err := (tpm2.NVReadPublic{NVIndex: nvIndex}).Execute(c)
	if err != nil {
		tb.Fatalf("NV_ReadPublic: %v", err)
	}
	return p.NVName
}

func increment(c vtpmtest.Conn, name tpm2.TPM2BName) error {
	_, err := (tpm2.NVIncrement{AuthHandle: auth(tpm2.TPMRHOwner), NVIndex: tpm2.NamedHandle{Handle: nvIndex, Name: name}}).Execute(c)
	return err
}

func readCounter(tb testing.TB, c vtpmtest.Conn, name tpm2.TPM2BName) uint64 {
	tb.Helper()
	r, err := (tpm2.NVRead{AuthHandle: auth(tpm2.TPMRHOwner), NVIndex: tpm2.NamedHandle{Handle: nvIndex, Name: name}, Size: 8}).Execute(c)
	if err != nil {
		tb.Fatalf("NV_Read: %v", err)
	}
	return binary.BigEndian.Uint64(r.Data.Buffer)
}

// TestPower: what survives a reset of the VM and a start of the paravisor, and what
// does not.
func TestPower(t *testing.T) {
	store := &vtpmtest.Store{}
	tpm, w := vtpmtest.New(t, store)
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	counter(t, c)
	name := nvName(t, c)
	zero := readPCR(t, c, 7)
	extend(t, c, 7)
	extended := readPCR(t, c, 7)
	if bytes.Equal(zero, extended) {
		t.Fatal("PCR 7 did not change")
	}
	want := readCounter(t, c, name)
	first := w.Last().Pid()

	// An orderly TPM Resume keeps PCRs (part 1 §12.2.4).
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUState}).Execute(c); err != nil {
		t.Fatal(err)
	}
	if err := tpm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.GetRandom{BytesRequested: 8}).Execute(c); !errors.Is(err, tpm2.TPMRCInitialize) {
		t.Errorf("before Startup: %v", err)
	}
	startup(t, c, tpm2.TPMSUState)
	if got := readPCR(t, c, 7); !bytes.Equal(got, extended) {
		t.Errorf("PCR 7 after a resume: %x", got)
	}
	if w.Last().Pid() == first {
		t.Error("the process of before the reset runs on")
	}

	// A TPM Reset does not.
	if err := tpm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	startup(t, c, tpm2.TPMSUClear)
	if got := readPCR(t, c, 7); !bytes.Equal(got, zero) {
		t.Errorf("PCR 7 after a reset: %x", got)
	}
	if got := readCounter(t, c, name); got != want {
		t.Errorf("counter is %d after a reset, was %d", got, want)
	}
	tpm.Close()
	tpm.Close()
	if tpm.Submit(0, []byte{0}, nil) {
		t.Error("a closed TPM takes commands")
	}
	if _, err := c.Send([]byte{0}); !errors.Is(err, vtpm.ErrClosed) {
		t.Errorf("a closed TPM: %v", err)
	}

	tpm, _ = vtpmtest.New(t, store)
	c = vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	if got := readCounter(t, c, name); got != want {
		t.Errorf("counter is %d after a start, was %d", got, want)
	}
	if s := w.Stats(); s.Deaths != 0 {
		t.Errorf("deaths: %+v", s)
	}
}

// TestBadState: damaged state is refused, never replaced by a new TPM.
func TestBadState(t *testing.T) {
	store := &vtpmtest.Store{}
	tpm, _ := vtpmtest.New(t, store)
	tpm.Close()
	good, _ := store.Load()
	tests := map[string][]byte{
		"zeros":     make([]byte, len(good)),
		"truncated": good[:len(good)/2],
		"one byte":  {1},
		"too large": make([]byte, 300<<10),
	}
	for name, state := range tests {
		s := &vtpmtest.Store{}
		s.Commit(state)
		w := vtpmtest.NewWorkers(t, 0)
		_, err := vtpm.New(t.Context(), vtpm.Config{Store: s, Start: w.Start, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, vtpm.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := s.Load(); !bytes.Equal(now, state) || s.Commits() != 1 {
			t.Errorf("%s: the store was changed", name)
		}
	}
}

// TestFailingStore: a command whose state cannot be committed did not happen.
func TestFailingStore(t *testing.T) {
	store := &vtpmtest.Store{}
	tpm, w := vtpmtest.New(t, store)
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	counter(t, c)
	name := nvName(t, c)
	extend(t, c, 9)
	pcr := readPCR(t, c, 9)
	before := readCounter(t, c, name)

	broken := true
	store.Fail = func() error {
		if broken {
			return errors.New("disk is gone")
		}
		return nil
	}
	for range 3 {
		if err := increment(c, name); !errors.Is(err, tpm2.TPMRCNVUnavailable) {
			t.Fatalf("NV_Increment: %v", err)
		}
	}
	if s := tpm.Stats(); s.Rollbacks != 1 {
		t.Errorf("%d commands undone: those after the first need not run", s.Rollbacks)
	}
	// What needs no store works.
	if got := readPCR(t, c, 9); !bytes.Equal(got, pcr) {
		t.Errorf("PCR 9 is %x", got)
	}
	extend(t, c, 9)
	pcr = readPCR(t, c, 9)

	broken = false
	if got := readCounter(t, c, name); got != before {
		t.Errorf("counter is %d, was %d", got, before)
	}
	if err := increment(c, name); err != nil {
		t.Fatal(err)
	}
	if got := readCounter(t, c, name); got != before+1 {
		t.Errorf("counter is %d, was %d", got, before)
	}
	if got := readPCR(t, c, 9); !bytes.Equal(got, pcr) {
		t.Errorf("PCR 9 is %x", got)
	}

	// Commands that are undone without end are refused in the end, until a reset.
	flaky := 0
	store.Fail = func() error {
		if flaky++; flaky%2 == 1 {
			return errors.New("disk comes and goes")
		}
		return nil
	}
	var err error
	for range 40 {
		if err = increment(c, name); errors.Is(err, tpm2.TPMRCFailure) {
			break
		}
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		t.Errorf("in the end: %v", err)
	}
	store.Fail = nil
	if err := tpm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	startup(t, c, tpm2.TPMSUClear)
	if got := readCounter(t, c, name); got != before+1 {
		t.Errorf("counter is %d, was %d", got, before+1)
	}
	if s := w.Stats(); s.Deaths != 0 {
		t.Errorf("%+v", s)
	}
}

// TestLocality: the locality is that of Submit, and no other is taken.
func TestLocality(t *testing.T) {
	tpm, _ := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	// PTP: PCR 20 is extended from localities 1 to 3.
	for locality, want := range []error{tpm2.TPMRCLocality, nil, nil, nil, tpm2.TPMRCLocality, tpm2.TPMRCLocality} {
		err := extendPCR(vtpmtest.Conn{TPM: tpm, Locality: uint8(locality)}, 20)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("PCR_Extend(20) at locality %d: %v", locality, err)
		}
	}
}

// TestMalformed: every command gets a well-formed response.
func TestMalformed(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	random := []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8}
	huge := make([]byte, vtpm.MaxBuffer)
	binary.BigEndian.PutUint16(huge, 0x8001)
	binary.BigEndian.PutUint32(huge[2:], uint32(len(huge)))
	tests := map[string][]byte{
		"empty":           nil,
		"a byte":          {0x80},
		"short header":    random[:9],
		"truncated":       random[:11],
		"one byte more":   append(bytes.Clone(random), 0),
		"size 0":          {0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x7B, 0, 8},
		"size 4 GB":       {0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 1, 0x7B, 0, 8},
		"TPM 1.2":         {0, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1},
		"unknown command": {0x80, 1, 0, 0, 0, 10, 0, 0, 0xFF, 0xFF},
		"largest":         huge,
		"too large":       append(bytes.Clone(huge), 0),
		"larger":          make([]byte, 1<<20),
	}
	for name, command := range tests {
		r, err := c.Send(command)
		if err != nil || vtpm.ResponseCode(r) == nil {
			t.Errorf("%s: %x, %v", name, r, err)
		}
		if len(r) < 10 || binary.BigEndian.Uint32(r[2:]) != uint32(len(r)) {
			t.Errorf("%s: response %x", name, r)
		}
	}
	if r, err := c.Send(random); err != nil || len(r) != 20 {
		t.Errorf("afterwards: %x, %v", r, err)
	}
	if s := w.Stats(); s.Starts != 1 {
		t.Errorf("%+v", s)
	}
}

// rsaKey creates a new RSA key: the sensitive part makes each different.
var rsaKey = tpm2.CreatePrimary{
	PrimaryHandle: tpm2.TPMRHNull,
	InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, SensitiveDataOrigin: true, UserWithAuth: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 3072}),
	}),
}

// TestCancel: a cancel ends the creation of a key; one for no command, or for one that
// is done, does nothing to the next.
func TestCancel(t *testing.T) {
	tpm, w := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	tpm.Cancel()
	command := marshalled(t, rsaKey)
	canceled := 0
	for i := range 40 {
		got := make(chan []byte, 1)
		if !tpm.Submit(0, command, func(r []byte) { got <- bytes.Clone(r) }) {
			t.Fatal("not taken")
		}
		if tpm.Submit(0, command, func([]byte) {}) {
			t.Fatal("a second command was taken")
		}
		// From before the worker has it on to deep within.
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		tpm.Cancel()
		tpm.Cancel()
		r := <-got
		switch err := vtpm.ResponseCode(r); {
		case errors.Is(err, vtpm.RCCanceled):
			canceled++
		case err == nil:
			flush(t, c, binary.BigEndian.Uint32(r[10:]))
		default:
			t.Fatalf("create: %v", err)
		}
		if r, err := c.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8}); err != nil || vtpm.ResponseCode(r) != nil {
			t.Fatalf("next command: %x, %v", r, err)
		}
	}
	if canceled == 0 {
		t.Error("no key generation was cancelled")
	}
	t.Logf("%d of 40 cancelled", canceled)
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := tpm.Execute(ctx, 0, command); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if s := w.Stats(); s.Starts != 1 {
		t.Errorf("%+v", s)
	}
}

func flush(tb testing.TB, c vtpmtest.Conn, handle uint32) {
	tb.Helper()
	if _, err := (tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(handle)}).Execute(c); err != nil {
		tb.Fatal(err)
	}
}

// recorder keeps the command that go-tpm sends.
type recorder struct{ command []byte }

func (r *recorder) Send(b []byte) ([]byte, error) {
	r.command = bytes.Clone(b)
	return nil, errors.New("only recorded")
}

func marshalled(tb testing.TB, c tpm2.CreatePrimary) []byte {
	tb.Helper()
	r := &recorder{}
	c.Execute(r)
	if len(r.command) == 0 {
		tb.Fatal("no command")
	}
	return r.command
}

// TestGivesUp: a worker that always dies is not started without end, and commands are
// answered all the same.
func TestGivesUp(t *testing.T) {
	w := vtpmtest.NewWorkers(t, 3)
	tpm, err := vtpm.New(t.Context(), vtpm.Config{Store: &vtpmtest.Store{}, Start: w.Start, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	for range 3 {
		w.Last().Kill()
		c.Send([]byte{0})
	}
	r, err := c.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8})
	if err != nil || !errors.Is(vtpm.ResponseCode(r), vtpm.RCFailure) {
		t.Errorf("%x, %v", r, err)
	}
	if s := w.Stats(); s.Starts != 3 || s.Deaths != 3 {
		t.Errorf("%+v", s)
	}
	if _, err := w.Start(t.Context()); !errors.Is(err, worker.ErrGaveUp) {
		t.Error(err)
	}
}
