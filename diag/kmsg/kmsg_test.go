package kmsg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]Record{
		"6,339,5140900,-;NET: Registered protocol family 10\n":                                            {6, 0, 339, 5140900 * time.Microsecond, "NET: Registered protocol family 10"},
		"30,1,0,-,caller=T1;a daemon\n":                                                                   {6, 3, 1, 0, "a daemon"},
		"7,160,424069,-;pci_root PNP0A03:00: host; and more\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n": {7, 0, 160, 424069 * time.Microsecond, "pci_root PNP0A03:00: host; and more"},
		`4,2,3,c;a tab\x09and \x1b and \xzz and \x4`:                                                      {4, 0, 2, 3 * time.Microsecond, "a tab\tand \x1b and \\xzz and \\x4"},
		"0,18446744073709551615,1,-;":                                                                     {0, 0, 1<<64 - 1, time.Microsecond, ""},
	} {
		if got, err := Parse([]byte(line)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{
		"", "text", ";", "6,339,5140900;text", "x,1,2,-;text", "-1,1,2,-;text", "6,-1,2,-;text", "6,1,,-;text", "6,1,9223372036854775807,-;text",
		"4294967296,1,2,-;text", "6,1,2,-",
	} {
		if got, err := Parse([]byte(line)); !errors.Is(err, ErrRecord) {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("6,339,5140900,-;text\n KEY=value\n"))
	f.Add([]byte(`4,2,3,c;\x1b`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%v", err)
		}
		if r.Level > 7 || r.Time < 0 || len(r.Text) > len(b) || strings.Contains(r.Text, "\n") && !strings.Contains(strings.ToLower(string(b)), `\x0a`) {
			t.Errorf("%+v", r)
		}
	})
}

// TestRead reads the log of this machine's kernel, where it may be read.
func TestRead(t *testing.T) {
	n := 0
	err := Read(t.Context(), false, func(Record) error { n++; return nil })
	if err != nil {
		t.Skip(fmt.Errorf("%w: no kernel log here: %w", errors.ErrUnsupported, err))
	}
	if n == 0 {
		t.Skip(fmt.Errorf("%w: the kernel log is empty", errors.ErrUnsupported))
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen, last := 0, uint64(0)
	err = Read(ctx, true, func(r Record) error {
		if r.Seq <= last && seen > 0 {
			t.Errorf("%d after %d", r.Seq, last)
		}
		last = r.Seq
		if seen++; seen == n {
			time.AfterFunc(10*time.Millisecond, cancel) // while it waits for another one
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen < n {
		t.Errorf("%v after %d of %d records", err, seen, n)
	}
	stop := errors.New("stop")
	if err := Read(t.Context(), true, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}
