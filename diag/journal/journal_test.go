package journal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keel/diag/inspect"
)

// logger writes text without times.
func logger(j *Journal, out *bytes.Buffer, redact bool) *slog.Logger {
	h := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(j.Handler(h, redact))
}

// all returns what is kept.
func all(t *testing.T, j *Journal) (records []Record) {
	t.Helper()
	for after := uint64(0); ; after = records[len(records)-1].Seq {
		r, _, ok, err := j.Next(t.Context(), after, false)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return records
		}
		records = append(records, r)
	}
}

// TestRedact: what nobody has marked stays inside, in whatever way it is logged.
func TestRedact(t *testing.T) {
	const secret = "0123456789abcdef"
	say := func(log *slog.Logger) {
		log.Debug("too little", inspect.PublicAttr("n", 0))
		log.Info("plain", "value", secret, inspect.PublicAttr("lun", 3))
		log.Warn("an error", "error", errors.New(secret))
		log.Info("a group", slog.Group("g", "value", secret, inspect.PublicAttr("n", 1)))
		log.With("value", secret, inspect.PublicAttr("vp", 2)).Info("with")
		log.WithGroup("g").With("value", secret).WithGroup("h").Error("groups", "value", any(secret), inspect.PublicAttr("n", "4"))
		log.Info("resolves", "value", resolves(secret))
	}
	for redact, want := range map[bool]string{
		true: `level=INFO msg=plain value=(private) lun=3
level=WARN msg="an error" error=(private)
level=INFO msg="a group" g.value=(private) g.n=1
level=INFO msg=with value=(private) vp=2
level=ERROR msg=groups g.value=(private) g.h.value=(private) g.h.n=4
level=INFO msg=resolves value=(private)
`,
		false: strings.ReplaceAll(`level=INFO msg=plain value=SECRET lun=3
level=WARN msg="an error" error=SECRET
level=INFO msg="a group" g.value=SECRET g.n=1
level=INFO msg=with value=SECRET vp=2
level=ERROR msg=groups g.value=SECRET g.h.value=SECRET g.h.n=4
level=INFO msg=resolves value.inner=SECRET
`, "SECRET", secret),
	} {
		var j Journal
		var out bytes.Buffer
		say(logger(&j, &out, redact))
		if out.String() != want {
			t.Errorf("%s\nwant\n%s", out.String(), want)
		}
		records := all(t, &j)
		if len(records) != 6 {
			t.Fatalf("%+v", records)
		}
		got := records[4]
		wantAttrs := []Attr{{"g.value", secret, inspect.Private}, {"g.h.value", secret, inspect.Private}, {"g.h.n", "4", inspect.Public}}
		if got.Seq != 5 || got.Level != slog.LevelError || got.Message != "groups" || got.Time.IsZero() || !reflect.DeepEqual(got.Attrs, wantAttrs) {
			t.Errorf("%+v", got)
		}
		for _, r := range records {
			for _, a := range r.Attrs {
				if a.Sensitivity == inspect.Public && strings.Contains(a.Value, secret) {
					t.Errorf("%+v", r)
				}
			}
		}
	}
}

// resolves is a value that is asked for what it is.
type resolves string

func (r resolves) LogValue() slog.Value { return slog.GroupValue(slog.String("inner", string(r))) }

// TestBounds: the journal takes what it may, whatever is logged.
func TestBounds(t *testing.T) {
	var j Journal
	log := slog.New(j.Handler(slog.DiscardHandler, false))
	log.Info("nobody wants it")
	if n := len(all(t, &j)); n != 0 {
		t.Fatalf("%d records below the level", n)
	}
	log = slog.New(j.Handler(slog.NewTextHandler(&bytes.Buffer{}, nil), false))
	for range 2 * maxRecords {
		log.Info("short")
	}
	if n := len(all(t, &j)); n != maxRecords {
		t.Errorf("%d records", n)
	}
	many := make([]any, 0, 4*maxAttrs)
	for range 2 * maxAttrs {
		many = append(many, "key", strings.Repeat("x", 10*maxText))
	}
	for range 100 {
		log.Info(strings.Repeat("m", 10*maxText), many...)
	}
	records := all(t, &j)
	size := 0
	for i := range records {
		size += records[i].size()
	}
	if size > maxBytes || size != j.bytes || len(records) == 0 {
		t.Errorf("%d bytes in %d records, %d counted", size, len(records), j.bytes)
	}
	if r := records[0]; len(r.Attrs) != maxAttrs || len(r.Message) != maxText || len(r.Attrs[0].Value) != maxText {
		t.Errorf("%d attributes, a message of %d bytes", len(r.Attrs), len(r.Message))
	}
	if cap(j.records) > 4*maxRecords {
		t.Errorf("room for %d records", cap(j.records))
	}
}

// TestNext follows a journal, also one that forgets faster than one reads.
func TestNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		log := slog.New(j.Handler(slog.NewTextHandler(&bytes.Buffer{}, nil), false))
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for after := uint64(0); after < 10; {
					r, lost, ok, err := j.Next(ctx, after, true)
					if err != nil || !ok || lost != 0 || r.Seq != after+1 {
						t.Errorf("%+v, %d, %v, %v", r, lost, ok, err)
						return
					}
					after = r.Seq
				}
				if _, _, _, err := j.Next(ctx, 10, true); !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
			})
		}
		for range 10 {
			time.Sleep(time.Second)
			log.Info("line")
		}
		synctest.Wait()
		cancel()
		readers.Wait()
		for range maxRecords {
			log.Info("line")
		}
		if r, lost, ok, err := j.Next(t.Context(), 3, true); err != nil || !ok || r.Seq != 11 || lost != 7 {
			t.Errorf("%+v, %d, %v, %v", r, lost, ok, err)
		}
		if _, _, ok, err := j.Next(t.Context(), 1<<63, false); ok || err != nil {
			t.Errorf("the future is there: %v", err)
		}
	})
}
