package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/server"
)

// errEnough ends a stream from the client's side.
var errEnough = errors.New("enough")

const interval = server.MinInterval

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	v := start(t, path, server.Config{Root: &part{}, Confidential: true})
	c := dial(t, path)
	n := uint64(0)
	err := c.Watch(t.Context(), "", 2, interval, func(tree *Tree) error {
		if n++; !tree.Confidential || !tree.Withheld || tree.Fields[0].Value != n {
			t.Errorf("%+v", tree)
		}
		if n == 3 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || n != 3 {
		t.Errorf("%v after %d looks", err, n)
	}
	more := func(*Tree) error { return nil }
	for path, want := range map[string]error{"none": ErrPath, "name": ErrPath, strings.Repeat("x", 300): ErrRequest, "bad\xffutf": ErrRequest} {
		if err := c.Watch(t.Context(), path, 0, interval, more); !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: %v", path, err)
		}
	}
	for _, bad := range []time.Duration{-1, 0, time.Millisecond, 2 * time.Hour, 1000 * time.Hour} {
		if err := c.Watch(t.Context(), "", 0, bad, more); !errors.Is(err, ErrRequest) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Watch(ctx, "", 0, interval, func(*Tree) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); v.server.Stats().Following > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", v.server.Stats())
		}
	}
	v.deaf.Store(true)
	if err := c.Watch(t.Context(), "", 0, interval, more); !errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}
	c.Close()
	if err := c.Watch(t.Context(), "", 0, interval, more); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
}

// TestStreamEnds: a VM that ends while somebody follows is lost.
func TestStreamEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Root: &part{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, &hybrid{l, &vm{}}) }()
	c := dial(t, path)
	if err := c.Watch(t.Context(), "", 0, interval, func(*Tree) error { cancel(); return nil }); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// fake is a client of a VM that the test plays.
func fake(t *testing.T) (*Client, net.Conn) {
	t.Helper()
	first, _ := net.Pipe()
	ours, theirs := net.Pipe()
	conns := []net.Conn{first, ours}
	c, err := newClient(t.Context(), "fake", func(context.Context) (net.Conn, error) {
		conn := conns[0]
		conns = conns[1:]
		return conn, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, theirs
}

// received reads a frame of the client's.
func received(c net.Conn) (h frame.Head, r *ttrpc.Request, err error) {
	r = &ttrpc.Request{}
	var head [frame.HeadBytes]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return h, r, err
	}
	h = frame.Parse(&head)
	b := make([]byte, h.Length)
	if _, err := io.ReadFull(c, b); err != nil {
		return h, r, err
	}
	return h, r, proto.Unmarshal(b, r)
}

// TestAlive follows a VM that says nothing but that it is there, and then not even that.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, vm := fake(t)
		const pings = 600
		go func() {
			h, r, err := received(vm)
			if err != nil || h.Type != frame.Request || h.Flags != frame.RemoteClosed || r.GetService() != "keel.diag.v1.Logs" || r.GetMethod() != "Watch" {
				t.Errorf("%+v, %v, %v", h, r, err)
			}
			for i := range uint32(pings) {
				h, r, err := received(vm)
				if err != nil || h.Type != frame.Request || h.Flags != 0 || h.Stream != 2*i+3 || r.GetMethod() != "Ping" {
					t.Errorf("%+v, %v, %v", h, r, err)
					return
				}
				vm.Write(frame.Append(nil, frame.Head{Stream: h.Stream, Type: frame.Response}, []byte("whatever"))) // a refusal is a sign of life, too
			}
			io.Copy(io.Discard, vm)
		}()
		began := time.Now()
		err := c.Watch(t.Context(), "", 0, time.Second, func(*Tree) error { return nil })
		if !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took != pings*pingPeriod+silence {
			t.Errorf("lost after %v", took)
		}
		c.Close()
	})
}

// FuzzStream lets a VM answer whatever it likes to who follows it.
func FuzzStream(f *testing.F) {
	tree, _ := proto.Marshal(&diagpb.InspectResponse{Field: &diagpb.Field{Name: "n\x1b", Value: &diagpb.Field_Number{Number: 7}}})
	line, _ := proto.Marshal(&diagpb.LogRecord{Seq: 1, TimeNs: -1, Message: "m\x1b", Level: 9, Attrs: []*diagpb.LogAttr{{Key: "k\n", Value: "v\u202e"}, nil}})
	message, _ := proto.Marshal(&diagpb.KmsgRecord{TimeUs: ^uint64(0), Level: ^uint32(0), Text: "t\x00"})
	data := func(stream uint32, flags byte, b []byte) []byte {
		return frame.Append(nil, frame.Head{Stream: stream, Type: frame.Data, Flags: flags}, b)
	}
	f.Add(data(1, 0, tree), byte(0))
	f.Add(data(1, 0, line), byte(1))
	f.Add(data(1, 0, message), byte(2))
	f.Add(append(data(1, 0, tree), data(1, frame.RemoteClosed|frame.NoData, nil)...), byte(0))
	f.Add(append(data(3, 0, tree), data(1, frame.RemoteClosed, tree)...), byte(0))
	f.Add(append(data(1, frame.RemoteClosed, tree), data(1, 0, tree)...), byte(0))
	f.Add(response(nil), byte(0))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x07\x01"), byte(0))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\x03\x00"), byte(0))
	f.Fuzz(func(t *testing.T, answer []byte, method byte) {
		c, vm := fake(t)
		defer c.Close()
		go func() {
			defer vm.Close()
			if _, _, err := received(vm); err != nil {
				t.Error(err)
			}
			vm.Write(answer)
		}()
		seen := 0
		check := func(texts ...string) error {
			seen++
			for _, s := range texts {
				if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q", s)
				}
			}
			return nil
		}
		var err error
		switch method {
		case 0:
			err = c.Watch(t.Context(), "", 1, interval, func(tree *Tree) error { return check(tree.Name, tree.Doc) })
		case 1:
			err = c.Logs(t.Context(), slog.LevelDebug, 0, true, func(l *LogLine) error {
				for _, a := range l.Attrs {
					_ = check(a.Key, a.Value)
					seen--
				}
				return check(l.Message, l.Level.String(), l.Time.String())
			})
		default:
			err = c.Kmsg(t.Context(), true, func(m *KernelMessage) error {
				if m.Time < 0 {
					t.Errorf("%v", m.Time)
				}
				return check(m.Text)
			})
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q", err)
		}
		if most := len(answer) / frame.HeadBytes; seen > most {
			t.Errorf("%d messages in %d bytes", seen, len(answer))
		}
	})
}

// TestLogsCalls makes the calls of the service Logs.
func TestLogsCalls(t *testing.T) {
	var j journal.Journal
	log := slog.New(j.Handler(slog.NewTextHandler(io.Discard, nil), false))
	log.Warn("line", "value", "hidden", inspect.PublicAttr("lun", 3))
	value := "one"
	config := server.Config{Root: &part{}, Logs: server.LogsConfig{Journal: &j, Settings: server.Settings{{
		Name: "free", Doc: "a value", Values: "one or two\x1b", Get: func() string { return value },
		Set: func(v string) error {
			if v == "three" {
				return server.ErrPolicy
			}
			value = v
			return nil
		},
	}}}}
	for _, config.Confidential = range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "s")
		start(t, path, config)
		c := dial(t, path)
		var lines []*LogLine
		if err := c.Logs(t.Context(), slog.LevelInfo, 0, false, func(l *LogLine) error { lines = append(lines, l); return nil }); err != nil {
			t.Fatal(err)
		}
		if lines[0].Message != "line" || lines[0].Level != slog.LevelWarn || lines[0].Attrs[1] != (LogAttr{Key: "lun", Value: "3", Sensitivity: inspect.Public}) {
			t.Errorf("%+v", lines[0])
		}
		if hidden := lines[0].Attrs[0]; hidden.Withheld != config.Confidential || (hidden.Value == "hidden") == config.Confidential {
			t.Errorf("%+v", hidden)
		}
		text, err := c.Metrics(t.Context())
		if err != nil || !strings.Contains(text, "\nkeel_looks_total ") {
			t.Errorf("%s, %v", text, err)
		}
		list, err := c.Settings(t.Context())
		if err != nil || len(list) != 1 || list[0].Values != "one or two?" || list[0].ReadOnly {
			t.Errorf("%+v, %v", list, err)
		}
		set, err := c.Update(t.Context(), "free", "two")
		if config.Confidential {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%+v, %v", set, err)
			}
			continue
		}
		if err != nil || set.Value != "two" {
			t.Errorf("%+v, %v", set, err)
		}
		for name, want := range map[string]error{"none": ErrPath, "looks": ErrRefused, "bad\xff": ErrRequest} {
			if _, err := c.Update(t.Context(), name, "x"); !errors.Is(err, want) {
				t.Errorf("%q: %v", name, err)
			}
		}
		if _, err := c.Update(t.Context(), "free", "three"); !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	}
}
