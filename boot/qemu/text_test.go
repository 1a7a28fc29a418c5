package qemu

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"keel/boot/handoff"
)

func TestEachLine(t *testing.T) {
	long := strings.Repeat("y", maxLine+5)
	var got []string
	var cut int
	eachLine(strings.NewReader("a\r\n\n"+long+"\nb\nend"), func(line []byte, whole bool) {
		if !whole {
			cut++
			line = line[:1]
		}
		got = append(got, string(line))
	})
	if strings.Join(got, ",") != "a,,y,b,end" || cut != 1 {
		t.Errorf("%q, %d cut", got, cut)
	}
}

func TestOneLine(t *testing.T) {
	tests := map[string]string{
		"plain":                        "plain",
		"two\nlines\r\n":               "two lines",
		"\x1b[2Jclear\x07\x00\u202eab": "[2Jclear ab",
		"bad \xff\xfe bytes":           "bad ? bytes",
		"":                             "",
		"  spaces\t\tand tabs ":        "spaces and tabs",
	}
	for in, want := range tests {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := len(oneLine(strings.Repeat("é", 1<<20))); n > maxMessage+3 {
		t.Errorf("%d bytes", n)
	}
}

func TestTail(t *testing.T) {
	quiet, loud := newTail(nil), newTail(isFatal)
	for _, line := range []string{"1", "2", "keel: shim: no memory", "", "3", "Kernel panic - not syncing: x", "4", "5"} {
		quiet.add([]byte(line), true)
		loud.add([]byte(line), true)
	}
	if q := quiet.quote(); q != "3 | Kernel panic - not syncing: x | 4 | 5" {
		t.Error(q)
	}
	if q := loud.quote(); q != "keel: shim: no memory" {
		t.Error(q)
	}
	<-loud.alarm // closed, or the test hangs
}

// FuzzEvents feeds the control channel anything: what comes out must be
// fit to be shown and to be counted.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"event":"init","time_ms":12.5}` + "\n"))
	f.Add([]byte(`{"event":"end","outcome":"guest-crashed","message":"RIP\u001b[0m"}` + "\n{"))
	f.Add([]byte(`{"event":"report","report":{"exits":{"a":1},"vtl2_memory_used_bytes":18446744073709551615}}` + "\n"))
	f.Add([]byte("\x00\xff\n\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		events, bad := make(chan handoff.Event, 1), uint64(0)
		go readEvents(bytes.NewReader(in), events, &bad)
		var r Report
		n := 0
		for e := range events {
			n++
			if strings.ContainsFunc(e.Message, unicode.IsControl) || len(e.Message) > maxMessage+3 {
				t.Errorf("message %q", e.Message)
			}
			if !plausible(&e) {
				t.Errorf("passed on: %+v", e)
			}
			r.apply(&e)
		}
		if n+int(bad) > bytes.Count(in, []byte("\n"))+1 {
			t.Errorf("%d events and %d bad lines", n, bad)
		}
		if _, err := r.JSON(); err != nil {
			t.Error(err)
		}
	})
}
