package gueststate

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/translate/blk"
)

func TestCommitAndOpen(t *testing.T) {
	for _, size := range blockSizes {
		d := newDisk(size)
		s := mustOpen(t, d, options())
		if r := s.Report(); !r.New || r.Recovered || r.Sequence != 0 || r.String() != "new and empty" {
			t.Errorf("%+v", r)
		}
		holds(t, s, "")
		s = mustOpen(t, d, options())
		if r := s.Report(); r.New || r.Recovered || r.Spliced {
			t.Errorf("prepared, never committed: %+v", r)
		}
		holds(t, s, "")
		for i, content := range []string{"a", strings.Repeat("b", 143<<10), "c", strings.Repeat("d", MaxContent)} {
			mustCommit(t, s, content)
			holds(t, s, content)
			s = mustOpen(t, d, options())
			r := s.Report()
			if want := uint64(i + 2); r.Recovered || r.Spliced || r.New || r.Sequence != want {
				t.Errorf("after %d commits: %+v", i+1, r)
			}
			holds(t, s, content)
			holds(t, s, content) // from the disk
		}
	}
}

// TestOneWriteOneFlush holds a commit to what it costs.
func TestOneWriteOneFlush(t *testing.T) {
	d := newDisk(512)
	s := mustOpen(t, d, options())
	mustCommit(t, s, "first")
	d.Log()
	mustCommit(t, s, strings.Repeat("x", 143<<10))
	if log := d.Log(); len(log) != 2 || log[0] != blk.OpWrite || log[1] != blk.OpFlush {
		t.Errorf("%v", log)
	}
	mustCommit(t, s, "small")
	d.Change(func(i *blk.Info) { i.MaxBlocks = 16 })
	s = mustOpen(t, d, options())
	d.Log()
	mustCommit(t, s, strings.Repeat("y", 16<<10))
	if log := d.Log(); len(log) != 4 || log[3] != blk.OpFlush {
		t.Errorf("16 KiB in pieces of 8: %v", log)
	}
	holds(t, s, strings.Repeat("y", 16<<10))
	if st := s.Stats(); st.Commits != 1 || st.Bytes != 16<<10 || st.Last <= 0 || st.Max < st.Last || st.Sum < st.Last {
		t.Errorf("%+v", st)
	}
}

// TestWritesOnlyTheOlderSlot checks that a commit leaves the other slot alone, and the
// disk behind what it needs.
func TestWritesOnlyTheOlderSlot(t *testing.T) {
	d := newDisk(4096)
	s := mustOpen(t, d, options())
	mustCommit(t, s, "1") // sequence 1 in A, 2 in B
	before := d.Bytes()
	mustCommit(t, s, strings.Repeat("2", 5000)) // A
	after := d.Bytes()
	if !bytes.Equal(before[SlotBytes:], after[SlotBytes:]) || !bytes.Equal(before[8192:], after[8192:]) || bytes.Equal(before[:4096], after[:4096]) {
		t.Error("a commit of 5000 bytes wrote elsewhere than into two blocks of slot A")
	}
}

// badDisks are the disks that are refused. Each begins as one that has "old" in slot A
// and "new" in slot B.
var badDisks = map[string]struct {
	edit   func(b []byte)
	change func(*blk.Info)
	opts   func(*Options)
	want   error
	remedy string
}{
	"both contents damaged":       {edit: func(b []byte) { b[headerBytes] ^= 1; b[SlotBytes+headerBytes] ^= 1 }, want: ErrDamaged, remedy: ResetOption},
	"both headers damaged":        {edit: func(b []byte) { b[offSalt] ^= 1; b[SlotBytes+offSequence] ^= 1 }, want: ErrDamaged, remedy: ResetOption},
	"one wiped, one damaged":      {edit: func(b []byte) { clear(b[:SlotBytes]); b[SlotBytes+headerBytes] ^= 1 }, want: ErrDamaged, remedy: ResetOption},
	"both tags damaged":           {edit: func(b []byte) { b[headerBytes+3] ^= 1; b[SlotBytes+headerBytes+3] ^= 1 }, want: ErrDamaged, remedy: ResetOption},
	"slots swapped":               {edit: func(b []byte) { a := bytes.Clone(b[:SlotBytes]); copy(b, b[SlotBytes:]); copy(b[SlotBytes:], a) }, want: ErrDamaged, remedy: ResetOption},
	"another VM":                  {opts: func(o *Options) { o.VM = "db" }, want: ErrVM, remedy: ResetOption},
	"another key":                 {opts: func(o *Options) { o.Provider = testKey(8) }, want: ErrKey, remedy: ResetOption},
	"another key, one damaged":    {edit: func(b []byte) { b[offSalt] ^= 1 }, opts: func(o *Options) { o.Provider = testKey(8) }, want: ErrKey, remedy: ResetOption},
	"another kind of key":         {opts: func(o *Options) { o.Provider = renamed{o.Provider} }, want: ErrProvider, remedy: ResetOption},
	"newer":                       {edit: newer(0, SlotBytes), want: ErrNewer, remedy: ResetOption},
	"newer beside one of today's": {edit: newer(0), want: ErrNewer, remedy: ResetOption},
	"something else":              {edit: func(b []byte) { copy(b, bytes.Repeat([]byte("ext4"), MinDisk/4)) }, want: ErrForeign, remedy: "new one"},
	"zeroes and something":        {edit: func(b []byte) { clear(b); b[SlotBytes/2] = 1 }, want: ErrForeign, remedy: "new one"},
	"too small":                   {change: func(i *blk.Info) { i.Blocks-- }, want: ErrSize, remedy: "4 MiB"},
	"no blocks":                   {change: func(i *blk.Info) { i.Blocks = 0 }, want: ErrSize, remedy: "4 MiB"},
	"odd blocks":                  {change: func(i *blk.Info) { i.BlockSize = 2048 }, want: ErrSize, remedy: "4096"},
	"no block size":               {change: func(i *blk.Info) { i.BlockSize = 0 }, want: ErrSize, remedy: "4096"},
	"read-only":                   {change: func(i *blk.Info) { i.ReadOnly = true }, want: ErrReadOnly, remedy: "writable"},
}

// renamed is the provider of another kind.
type renamed struct{ Provider }

func (renamed) Name() string { return "snp" }

// newer makes the slots at some places ones of a later version.
func newer(places ...int) func(b []byte) {
	return func(b []byte) {
		for _, at := range places {
			h := b[at : at+headerBytes]
			h[offVersion]++
			clear(h[offSum:offSequence])
			s := sum(h)
			h[offSum], h[offSum+1], h[offSum+2], h[offSum+3] = byte(s), byte(s>>8), byte(s>>16), byte(s>>24)
		}
	}
}

func TestBadDisks(t *testing.T) {
	for name, tt := range badDisks {
		t.Run(name, func(t *testing.T) {
			for _, size := range blockSizes {
				d := newDisk(size)
				mustCommit(t, mustOpen(t, d, options()), "x", "old", "new")
				if tt.edit != nil {
					d = edited(d, tt.edit)
				}
				if tt.change != nil {
					d.Change(tt.change)
				}
				o := options()
				if tt.opts != nil {
					tt.opts(&o)
				}
				before := d.Bytes()
				_, err := Open(d, o)
				refused(t, err, tt.want, tt.remedy)
				if !bytes.Equal(before, d.Bytes()) {
					t.Fatal("the disk was touched")
				}
				o.Reset = true
				s, err := Open(d, o)
				if tt.remedy != ResetOption {
					refused(t, err, tt.want, tt.remedy)
					if !bytes.Equal(before, d.Bytes()) {
						t.Fatal("the disk was touched")
					}
					continue
				}
				if err != nil || !s.Report().Reset {
					t.Fatalf("reset: %v", err)
				}
				holds(t, s, "")
				o.Reset = false
				s = mustOpen(t, d, o)
				if r := s.Report(); r.Recovered || r.Spliced {
					t.Errorf("after the reset: %+v", r)
				}
				holds(t, s, "")
				mustCommit(t, s, "fresh")
				holds(t, mustOpen(t, d, o), "fresh")
			}
		})
	}
}

// TestRecover damages one slot of two.
func TestRecover(t *testing.T) {
	at := func(places ...int) func([]byte) {
		return func(b []byte) {
			for _, p := range places {
				b[p] ^= 0x10
			}
		}
	}
	tests := map[string]struct {
		edit func(b []byte)
		want string // content
		from string
		says string
	}{
		"older content":       {at(SlotBytes + headerBytes), "new", "A", "slot B: content does not authenticate"},
		"newer content":       {at(headerBytes), "old", "B", "recovered from slot B, sequence 4; slot A: content"},
		"newer magic":         {at(0), "old", "B", "no header"},
		"newer version":       {at(offVersion), "old", "B", "header is damaged"},
		"newer sequence":      {at(offSequence), "old", "B", "header is damaged"},
		"newer VM":            {at(offVM), "old", "B", "header is damaged"},
		"newer check":         {at(offCheck), "old", "B", "header is damaged"},
		"newer reserved":      {at(offZero), "old", "B", "header is damaged"},
		"newer checksum":      {at(offSum), "old", "B", "header is damaged"},
		"newer wiped":         {func(b []byte) { clear(b[:SlotBytes]) }, "old", "B", "slot A: empty"},
		"older wiped":         {func(b []byte) { clear(b[SlotBytes:]) }, "new", "A", "slot B: empty"},
		"older is a copy":     {func(b []byte) { copy(b[SlotBytes:], b[:SlotBytes]) }, "new", "A", "that of the other slot"},
		"newer is of another": {func(b []byte) { b[offVM] ^= 1; resum(b) }, "old", "B", "another VM"},
		"newer check forged":  {func(b []byte) { b[offCheck] ^= 1; resum(b) }, "old", "B", "another key"},
		"newer length forged": {func(b []byte) { b[offLength+1] ^= 1; resum(b) }, "old", "B", "does not authenticate"},
		"newer seq. forged":   {func(b []byte) { b[offSequence+1] ^= 1; resum(b) }, "old", "B", "does not authenticate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, size := range blockSizes {
				d := newDisk(size)
				mustCommit(t, mustOpen(t, d, options()), "x", "y", "old", "new") // sequences 1 to 5, "new" in A
				d = edited(d, tt.edit)
				s := mustOpen(t, d, options())
				r := s.Report()
				if !r.Recovered || r.Spliced || r.From != tt.from || !strings.Contains(r.String(), tt.says) {
					t.Errorf("%+v: %s", r, r)
				}
				holds(t, s, tt.want)
				mustCommit(t, s, "next")
				s = mustOpen(t, d, options())
				if r := s.Report(); r.Recovered || r.Spliced || r.From == tt.from {
					t.Errorf("after the next commit: %s", r)
				}
				holds(t, s, "next")
			}
		})
	}
}

// resum makes the header of slot A one whose checksum fits.
func resum(b []byte) {
	clear(b[offSum:offSequence])
	s := sum(b[:headerBytes])
	b[offSum], b[offSum+1], b[offSum+2], b[offSum+3] = byte(s), byte(s>>8), byte(s>>16), byte(s>>24)
}

// TestNeverForgets checks that one damaged slot never makes a state look as if there
// never had been one, not even after a single commit.
func TestNeverForgets(t *testing.T) {
	for slot := range slots {
		d := newDisk(512)
		mustCommit(t, mustOpen(t, d, options()), "only")
		d = edited(d, func(b []byte) { b[slot*SlotBytes+headerBytes] ^= 1 })
		holds(t, mustOpen(t, d, options()), "only")
	}
}

func TestMediumErrors(t *testing.T) {
	d := newDisk(4096)
	mustCommit(t, mustOpen(t, d, options()), "old", "new") // "new" in A
	d.Fault(0, blk.ErrMedium)
	s := mustOpen(t, d, options())
	if r := s.Report(); !r.Recovered || r.Slots[0].Condition != Unreadable {
		t.Errorf("%s", r)
	}
	holds(t, s, "old")
	// A device that fails is no damaged slot: what it does not show is not lost.
	d.Fault(0, blk.ErrDevice)
	_, err := Open(d, options())
	refused(t, err, ErrDisk, "host")
	d.Fault(0, blk.ErrMedium)
	d.Fault(SlotBytes/4096, blk.ErrMedium)
	_, err = Open(d, options())
	refused(t, err, ErrDamaged, ResetOption)
}

// TestFailedCommit checks that the old state stays when a disk fails or is full, and
// that the store goes on once it works again.
func TestFailedCommit(t *testing.T) {
	for _, cause := range []error{blk.ErrFull, blk.ErrMedium, blk.ErrProtected, blk.ErrDevice} {
		d := newDisk(512)
		s := mustOpen(t, d, options())
		mustCommit(t, s, "old", "kept") // "kept" in A, the next one goes to B
		d.Fault(SlotBytes/512+1, cause)
		if err := s.Commit(bytes.Repeat([]byte("x"), 2000)); !errors.Is(err, ErrDisk) || !errors.Is(err, cause) {
			t.Fatalf("%v, want %v", err, cause)
		}
		holds(t, s, "kept")
		holds(t, mustOpen(t, d, options()), "kept")
		d.Fault(SlotBytes/512+1, nil)
		mustCommit(t, s, "again")
		holds(t, mustOpen(t, d, options()), "again")
		if st := s.Stats(); st.Failed != 1 || st.Commits != 3 {
			t.Errorf("%+v", st)
		}
	}
}

func TestRefusedContents(t *testing.T) {
	d := newDisk(512)
	s := mustOpen(t, d, options())
	mustCommit(t, s, "kept")
	if err := s.Commit(make([]byte, MaxContent+1)); !errors.Is(err, ErrFull) {
		t.Errorf("too large: %v", err)
	}
	if err := s.Commit(nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	holds(t, s, "kept")
	if n := s.Stats().Refused; n != 2 {
		t.Errorf("%d refused", n)
	}
}

// TestFullWhenNew checks that a thin disk without space shows it before there is a state.
func TestFullWhenNew(t *testing.T) {
	d := newDisk(512)
	d.Fault(SlotBytes/512+100, blk.ErrFull)
	_, err := Open(edited(d, func([]byte) {}), options())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(d, options())
	refused(t, err, blk.ErrFull, "space")
}

// TestRollback checks what can be seen of a host that presents an old disk.
func TestRollback(t *testing.T) {
	d := newDisk(512)
	s := mustOpen(t, d, options())
	mustCommit(t, s, "1", "2")
	old := d.Bytes() // "2" in A
	mustCommit(t, s, "3", "4")
	current := d.Bytes() // "4" in A, "3" in B
	d.Fill(old)
	if _, err := s.Load(); !errors.Is(err, ErrRollback) {
		t.Errorf("in one run: %v", err)
	}
	if n := s.Stats().Rollbacks; n != 1 {
		t.Errorf("%d rollbacks", n)
	}
	// Two histories that part after "2", spliced.
	other := mustOpen(t, d, options())
	holds(t, other, "2")
	mustCommit(t, other, "3'", "4'")
	forked := edited(d, func(b []byte) { copy(b[SlotBytes:], current[SlotBytes:]) }) // "4'" in A, "3" in B
	s = mustOpen(t, forked, options())
	if r := s.Report(); !r.Spliced || !strings.Contains(r.String(), "rolled back") {
		t.Errorf("%s", r)
	}
	holds(t, s, "4'")
	// The write of "3" was lost, that of "4" was not.
	gap := edited(d, func(b []byte) { copy(b, current); copy(b[SlotBytes:], old[SlotBytes:]) }) // "4" and "1"
	if s = mustOpen(t, gap, options()); !s.Report().Spliced {
		t.Errorf("%s", s.Report())
	}
	holds(t, s, "4")
	// The disk as a whole looks as it did: no store can tell without a counter.
	if s = mustOpen(t, edited(d, func(b []byte) { copy(b, old) }), options()); s.Report().Spliced || s.Report().Recovered {
		t.Errorf("%s", s.Report())
	}
	holds(t, s, "2")
}

// TestSaltsDiffer checks that no commit meets the salt of another one: not of the same
// content, nor after a roll-back of the disk.
func TestSaltsDiffer(t *testing.T) {
	d := newDisk(512)
	s := mustOpen(t, d, options())
	mustCommit(t, s, "0")
	old := d.Bytes()
	seen := map[string]bool{}
	for range 200 {
		d.Fill(old)
		mustCommit(t, mustOpen(t, d, options()), "same") // each time the same place and sequence
		b := d.Bytes()
		salt, body := string(b[offSalt:offCheck]), string(b[headerBytes:headerBytes+20])
		if seen[salt] || seen[body] {
			t.Fatal("a salt or a ciphertext came twice")
		}
		seen[salt], seen[body] = true, true
	}
}

// TestNothingInTheClear looks for content and key on the disk.
func TestNothingInTheClear(t *testing.T) {
	key, secret := make([]byte, KeyBytes), make([]byte, 64)
	rand.Read(key)
	rand.Read(secret)
	p, err := HostKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d := newDisk(512)
	mustCommit(t, mustOpen(t, d, Options{VM: "web", Provider: p}), string(secret), string(secret))
	disk := d.Bytes()
	for _, hidden := range [][]byte{key, secret} {
		for at := 0; at+8 <= len(hidden); at += 8 {
			if bytes.Contains(disk, hidden[at:at+8]) {
				t.Fatal("a piece of the secret or of the key is on the disk")
			}
		}
	}
	if s := mustOpen(t, d, Options{VM: "web", Provider: p, Reset: true}); !s.Report().Reset {
		t.Error(s.Report())
	}
	if b := d.Bytes(); !zero(b[512:SlotBytes]) || !zero(b[SlotBytes+512:]) {
		t.Error("a reset left something of the old state")
	}
}

func TestIdentity(t *testing.T) {
	for _, vm := range []string{"", strings.Repeat("x", MaxVM+1), "a\nb", "\x00", "ä"} {
		o := options()
		o.VM = vm
		if _, err := Open(newDisk(512), o); !isOutcome(err, handoff.OutcomeBadConfig) {
			t.Errorf("%q: %v", vm, err)
		}
	}
	o := options()
	o.VM = strings.Repeat("x", MaxVM)
	d := newDisk(512)
	mustCommit(t, mustOpen(t, d, o), "x")
	holds(t, mustOpen(t, d, o), "x")
}

func isOutcome(err error, o handoff.Outcome) bool {
	f, ok := errors.AsType[*handoff.Failure](err)
	return ok && f.Outcome == o
}

func TestParseKey(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, KeyBytes)
	hexed := strings.Repeat("a5", KeyBytes)
	for text, good := range map[string]bool{
		string(raw): true, hexed: true, hexed + "\n": true, " " + strings.ToUpper(hexed) + "\r\n": true,
		"": false, hexed[1:]: false, hexed + "a5": false, string(raw[1:]): false, strings.Repeat("zz", KeyBytes): false,
	} {
		if key, err := ParseKey([]byte(text)); good != (err == nil) || good && !bytes.Equal(key, raw) {
			t.Errorf("%q: %x, %v", text, key, err)
		}
	}
	for _, key := range [][]byte{nil, make([]byte, KeyBytes), make([]byte, KeyBytes+1)} {
		if _, err := HostKey(key); err == nil {
			t.Errorf("%x taken for a key", key)
		}
	}
}

// TestProviderHints checks that a key can change with its hint, and that old state opens.
func TestProviderHints(t *testing.T) {
	d := newDisk(512)
	o := Options{VM: "web", Provider: rotating(1)}
	mustCommit(t, mustOpen(t, d, o), "of the first key")
	o.Provider = rotating(2)
	s := mustOpen(t, d, o)
	holds(t, s, "of the first key")
	mustCommit(t, s, "of the second key")
	holds(t, mustOpen(t, d, o), "of the second key")
	o.Provider = rotating(1) // firmware that was taken back: its key opens what came before
	if s := mustOpen(t, d, o); !s.Report().Recovered {
		t.Errorf("%s", s.Report())
	}
}

// rotating has a key for each version up to its own.
type rotating byte

func (rotating) Name() string { return "rotating" }
func (r rotating) Hint() Hint { return Hint{byte(r)} }
func (r rotating) Key(h Hint) ([]byte, error) {
	if h[0] > byte(r) {
		return nil, errors.New("of a later version")
	}
	return bytes.Repeat(h[:1], KeyBytes), nil
}
