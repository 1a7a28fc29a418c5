package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/kmsg"
)

// lines reads the messages of a stream until it ends well.
func lines(t *testing.T, c net.Conn) (out []*diagpb.LogRecord) {
	t.Helper()
	for {
		h, b, err := read(c)
		if err != nil || h.Type != frame.Data {
			t.Fatalf("%+v, %q, %v", h, b, err)
		}
		if h.Ends() {
			return out
		}
		out = append(out, line(t, b))
	}
}

func line(t *testing.T, b []byte) *diagpb.LogRecord {
	t.Helper()
	r := &diagpb.LogRecord{}
	if err := proto.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// logger is one whose lines the journal keeps.
func logger(j *journal.Journal) *slog.Logger {
	return slog.New(j.Handler(slog.NewTextHandler(&bytes.Buffer{}, nil), false))
}

// TestLogs: of a confidential guest private values stay inside.
func TestLogs(t *testing.T) {
	for _, confidential := range []bool{false, true} {
		var j journal.Journal
		log := logger(&j)
		log.Info("first", "value", "secret", inspect.PublicAttr("lun", 3))
		log.Error("second\xff", inspect.PublicAttr("error", errors.New("bad \xff")))
		_, l := serve(t, Config{Root: node{}, Confidential: confidential, Logs: LogsConfig{Journal: &j}})
		c := l.connect()
		defer c.Close()
		go c.Write(ask(1, "Logs/Logs", &diagpb.LogsRequest{}))
		got := lines(t, c)
		if len(got) != 2 || got[0].GetSeq() != 1 || got[0].GetMessage() != "first" || got[0].GetLevel() != diagpb.LogLevel_LOG_LEVEL_INFO || got[1].GetMessage() != "second?" {
			t.Fatalf("%v", got)
		}
		private, public := got[0].GetAttrs()[0], got[0].GetAttrs()[1]
		if private.GetWithheld() != confidential || (private.GetValue() == "secret") == confidential || private.GetSensitivity() != diagpb.Sensitivity_SENSITIVITY_PRIVATE {
			t.Errorf("%v", private)
		}
		if public.GetWithheld() || public.GetValue() != "3" || public.GetKey() != "lun" {
			t.Errorf("%v", public)
		}
		go c.Write(ask(3, "Logs/Logs", &diagpb.LogsRequest{Least: diagpb.LogLevel_LOG_LEVEL_WARN}))
		if got := lines(t, c); len(got) != 1 || got[0].GetSeq() != 2 {
			t.Errorf("%v", got)
		}
		go c.Write(ask(5, "Logs/Logs", &diagpb.LogsRequest{After: 2}))
		if got := lines(t, c); len(got) != 0 {
			t.Errorf("%v", got)
		}
		if got := code(t, c, ask(7, "Logs/Logs", &diagpb.LogsRequest{Least: 9})); got != codes.InvalidArgument {
			t.Errorf("%v", got)
		}
	}
}

// TestLogsFollow follows a log that is faster than its reader.
func TestLogsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal.Journal
		log := logger(&j)
		_, l := serve(t, Config{Root: node{}, Logs: LogsConfig{Journal: &j}})
		c := l.connect()
		defer c.Close()
		go c.Write(ask(1, "Logs/Logs", &diagpb.LogsRequest{Follow: true, Least: diagpb.LogLevel_LOG_LEVEL_WARN}))
		synctest.Wait()
		next, lost := uint64(1), uint64(0)
		for range 10 {
			for range 500 {
				log.Info("too little")
				log.Warn("line", "long", strings.Repeat("x", 300))
			}
			for range 3 {
				h, b, err := read(c)
				if err != nil || h.Type != frame.Data || h.Flags != 0 {
					t.Fatalf("%+v, %v", h, err)
				}
				r := line(t, b)
				if r.GetMessage() != "line" || r.GetSeq() < next {
					t.Fatalf("%v after %d", r, next-1)
				}
				next, lost = r.GetSeq()+1, lost+r.GetLost()
			}
		}
		if lost == 0 {
			t.Error("nothing was lost")
		}
	})
}

func TestKmsg(t *testing.T) {
	config := LogsConfig{Kmsg: func(_ context.Context, follow bool, each func(kmsg.Record) error) error {
		for i := range uint64(3) {
			if err := each(kmsg.Record{Seq: i, Level: 4, Facility: 3, Time: time.Second, Text: "text \xff"}); err != nil {
				return err
			}
		}
		if follow {
			return errors.New("broken")
		}
		return nil
	}}
	_, l := serve(t, Config{Root: node{}, Logs: config})
	c := l.connect()
	defer c.Close()
	go c.Write(ask(1, "Logs/Kmsg", &diagpb.KmsgRequest{Follow: true}))
	for i := range uint64(3) {
		_, b, err := read(c)
		var r diagpb.KmsgRecord
		if err != nil || proto.Unmarshal(b, &r) != nil || r.GetSeq() != i || r.GetTimeUs() != 1e6 || r.GetText() != "text ?" || r.GetLevel() != 4 || r.GetFacility() != 3 {
			t.Fatalf("%v, %v", &r, err)
		}
	}
	if _, r, err := answer(c); err != nil || codes.Code(r.GetStatus().GetCode()) != codes.Unknown {
		t.Errorf("%v, %v", r, err)
	}
	_, l = serve(t, Config{Root: node{}, Confidential: true, Debug: true, Logs: config})
	c = l.connect()
	defer c.Close()
	go c.Write(ask(1, "Logs/Kmsg", &diagpb.KmsgRequest{}))
	if _, r, err := answer(c); err != nil || r.GetStatus().GetMessage() != "rule kernel-log refuses Logs/Kmsg: the guest is confidential" {
		t.Errorf("%v, %v", r, err)
	}
}

// secrets is a tree with a private field.
type secrets struct{}

func (secrets) Inspect(f *inspect.Fields) {
	f.Uint("shown", inspect.Public, inspect.Count, 1, "known to all")
	f.Uint("hidden", inspect.Private, inspect.Count, 2, "known to the guest")
}

func TestMetrics(t *testing.T) {
	for _, confidential := range []bool{false, true} {
		_, l := serve(t, Config{Root: secrets{}, Confidential: confidential})
		c := l.connect()
		defer c.Close()
		go c.Write(ask(1, "Logs/Metrics", &diagpb.MetricsRequest{}))
		var m diagpb.MetricsResponse
		_, r, err := answer(c)
		if err != nil || proto.Unmarshal(r.GetPayload(), &m) != nil || !strings.HasPrefix(m.GetContentType(), "application/openmetrics-text") {
			t.Fatalf("%v, %v", r, err)
		}
		text := string(m.GetText())
		if !strings.Contains(text, "keel_shown_total 1\n") || strings.Contains(text, "hidden") == confidential || !strings.HasSuffix(text, "# EOF\n") {
			t.Errorf("%s", text)
		}
	}
	_, l := serve(t, Config{Root: node{text: strings.Repeat("x", maxAnswer)}})
	if got := code(t, l.connect(), ask(1, "Logs/Metrics", &diagpb.MetricsRequest{})); got != codes.ResourceExhausted {
		t.Errorf("%v", got)
	}
}

func TestSettings(t *testing.T) {
	value := "one"
	config := Config{Root: node{text: "x"}, Logs: LogsConfig{Settings: Settings{
		{Name: "free", Doc: "a value", Values: "one or two", Get: func() string { return value }, Set: func(v string) error {
			switch v {
			case "one", "two":
				value = v
				return nil
			case "policy":
				return fmt.Errorf("%w: it is too much", ErrPolicy)
			}
			return fmt.Errorf("%w: %q", ErrValue, v)
		}},
		{Name: "fixed", Doc: "always the same", Get: func() string { return "so" }},
	}}}
	s, l := serve(t, config)
	c := l.connect()
	defer c.Close()
	for i, tt := range []struct {
		name, value string
		want        codes.Code
		says        string
	}{
		{"free", "two", codes.OK, ""},
		{"free", "three", codes.InvalidArgument, `free is one or two: not a value of it: "three"`},
		{"free", "policy", codes.PermissionDenied, "free: the image's policy refuses it: it is too much"},
		{"fixed", "so", codes.FailedPrecondition, "fixed can only be read"},
		{"text", "y", codes.FailedPrecondition, "text is a part of the state, which can only be read"},
		{"", "y", codes.NotFound, `there is no setting ""`},
		{"none", "y", codes.NotFound, `there is no setting "none"`},
		{strings.Repeat("n", MaxPath+1), "y", codes.InvalidArgument, "a name or value of 257 bytes: at most 256 and 256 are read"},
		{"free", strings.Repeat("n", maxValue+1), codes.InvalidArgument, "a name or value of 257 bytes: at most 256 and 256 are read"},
	} {
		go c.Write(ask(uint32(2*i+1), "Logs/Update", &diagpb.UpdateRequest{Name: tt.name, Value: tt.value}))
		_, r, err := answer(c)
		if err != nil || codes.Code(r.GetStatus().GetCode()) != tt.want || r.GetStatus().GetMessage() != tt.says {
			t.Errorf("%.9s=%.9s: %v, %v", tt.name, tt.value, r.GetStatus(), err)
		}
	}
	go c.Write(ask(99, "Logs/Settings", &diagpb.SettingsRequest{}))
	var list diagpb.SettingsResponse
	_, r, err := answer(c)
	if err != nil || proto.Unmarshal(r.GetPayload(), &list) != nil || len(list.GetSettings()) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	free, fixed := list.GetSettings()[0], list.GetSettings()[1]
	if free.GetValue() != "two" || free.GetReadOnly() || free.GetValues() != "one or two" || !fixed.GetReadOnly() || fixed.GetDoc() != "always the same" {
		t.Errorf("%v", &list)
	}
	if f, err := inspect.Look(s.config.Logs.Settings, "free", 0); err != nil || f.Value != "two" {
		t.Errorf("%+v, %v", f, err)
	}
	config.Confidential = true
	_, l = serve(t, config)
	if got := code(t, l.connect(), ask(1, "Logs/Update", &diagpb.UpdateRequest{Name: "free", Value: "one"})); got != codes.PermissionDenied || value != "two" {
		t.Errorf("%v, %s", got, value)
	}
}
