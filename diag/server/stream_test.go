package server

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
)

// watch asks for a stream that never ends.
func watch(stream uint32, interval time.Duration) []byte {
	return ask(stream, "Logs/Watch", &diagpb.WatchRequest{
		What: &diagpb.InspectRequest{Path: "text"}, IntervalMs: uint32(interval.Milliseconds()),
	})
}

// TestStream follows a stream and ends it with the connection.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := serve(t, Config{Root: node{text: "here"}})
		c := l.connect()
		go c.Write(watch(1, time.Second))
		began := time.Now()
		for range 10 {
			h, b, err := read(c)
			var r diagpb.InspectResponse
			if err != nil || h.Type != frame.Data || h.Flags != 0 || h.Stream != 1 || proto.Unmarshal(b, &r) != nil || r.GetField().GetText() != "here" {
				t.Fatalf("%+v, %q, %v", h, b, err)
			}
		}
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("ten messages in %v", took)
		}
		// Requests are answered in between.
		go c.Write(request(3, "Inspect", &diagpb.InspectRequest{}))
		for answered := false; !answered; {
			h, _, err := read(c)
			if err != nil {
				t.Fatal(err)
			}
			answered = h.Stream == 3 && h.Type == frame.Response
		}
		if n := s.Stats(); n.Following != 1 || n.Streams != 1 || n.Requests != 2 {
			t.Errorf("%+v", n)
		}
		c.Close()
		synctest.Wait()
		time.Sleep(time.Second)
		if n := s.Stats(); n.Following != 0 || n.Open != 0 || n.Refused != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// TestStreamRefusals: what is no stream says why, and leaves nothing.
func TestStreamRefusals(t *testing.T) {
	s, l := serve(t, Config{Root: node{text: "here"}})
	c := l.connect()
	defer c.Close()
	for i, tt := range []struct {
		m    *diagpb.WatchRequest
		want codes.Code
	}{
		{&diagpb.WatchRequest{IntervalMs: 99}, codes.InvalidArgument},
		{&diagpb.WatchRequest{IntervalMs: 3600001}, codes.InvalidArgument},
		{&diagpb.WatchRequest{What: &diagpb.InspectRequest{Depth: MaxDepth + 1}}, codes.InvalidArgument},
		{&diagpb.WatchRequest{What: &diagpb.InspectRequest{Path: "none"}}, codes.NotFound},
	} {
		if got := code(t, c, ask(uint32(2*i+1), "Logs/Watch", tt.m)); got != tt.want {
			t.Errorf("%v: %v", tt.m, got)
		}
	}
	if got := code(t, c, ask(99, "Logs/None", &diagpb.WatchRequest{})); got != codes.Unimplemented {
		t.Errorf("%v", got)
	}
	if n := s.Stats(); n.Following != 0 || n.Invalid != 4 {
		t.Errorf("%+v", n)
	}
}

// TestPolicyFirst: a method that the policy does not allow is refused before all else,
// streams too.
func TestPolicyFirst(t *testing.T) {
	saved := rules
	defer func() { rules = saved }()
	rules = map[string]access{}
	s, l := serve(t, Config{Root: node{text: "here"}})
	n := uint64(0)
	for name := range methods() {
		c := l.connect()
		go c.Write(ask(1, name, &diagpb.InspectRequest{}))
		if _, r, err := answer(c); err != nil || r.GetStatus().GetMessage() != "rule unlisted refuses "+name+": no rule allows it" {
			t.Errorf("%s: %v, %v", name, r, err)
		}
		c.Close()
		n++
	}
	if got := s.Stats(); got.Denied != n || got.Streams != 0 {
		t.Errorf("%+v", got)
	}
}

// TestStreamLimits opens more streams than there may be, of one client and of all.
func TestStreamLimits(t *testing.T) {
	s, l := serve(t, Config{Root: node{text: "here"}})
	var clients []net.Conn
	for len(clients)*maxUnderWay < maxStreams {
		c := l.connect()
		defer c.Close()
		clients = append(clients, c)
		for i := range maxUnderWay {
			go c.Write(watch(uint32(2*i+1), time.Hour))
			if h, _, err := read(c); err != nil || h.Type != frame.Data {
				t.Fatalf("%+v, %v", h, err)
			}
		}
	}
	more := l.connect()
	if got := code(t, more, watch(1, time.Hour)); got != codes.ResourceExhausted {
		t.Errorf("%v", got)
	}
	if got := code(t, more, request(3, "Inspect", &diagpb.InspectRequest{})); got != codes.OK {
		t.Errorf("%v", got)
	}
	if n := s.Stats(); n.Following != maxStreams || n.Busy != 1 {
		t.Errorf("%+v", n)
	}
	clients[0].Close()
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Following > maxStreams-maxUnderWay; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Stats())
		}
	}
	go more.Write(watch(5, time.Hour)) // there is room again
	if h, _, err := read(more); err != nil || h.Type != frame.Data {
		t.Errorf("%+v, %v", h, err)
	}
	more.Close()
}

// TestStreamClients lets clients follow a stream, each in its way, in a time of their own.
func TestStreamClients(t *testing.T) {
	const idle, stall = 2 * time.Minute, 10 * time.Second
	long := strings.Repeat("x", maxAnswer/2)
	for name, tt := range map[string]struct {
		follow func(c net.Conn)
		want   time.Duration // until it is dropped
	}{
		"half open": {func(c net.Conn) { c.Write(watch(1, time.Second)); io.Copy(io.Discard, c) }, idle},
		"stalled":   {func(c net.Conn) { c.Write(watch(1, time.Second)) }, stall},
		"too many": {func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for i := range maxUnderWay + 1 {
				c.Write(watch(uint32(2*i+1), time.Hour))
			}
		}, idle},
		"slow": {func(c net.Conn) {
			c.Write(watch(1, time.Second))
			for b := make([]byte, 1); ; time.Sleep(time.Second) {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}, stall},
		"alive, for six hours": {func(c net.Conn) {
			c.Write(watch(1, time.Minute))
			go io.Copy(io.Discard, c)
			for i := range 6 * 60 {
				time.Sleep(time.Minute)
				if _, err := c.Write(request(uint32(2*i+3), "Ping", &diagpb.PingRequest{})); err != nil {
					return
				}
			}
			c.Close()
		}, 6 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := serve(t, Config{Root: node{text: long}})
				began := time.Now()
				go tt.follow(l.connect())
				synctest.Wait() // until it is a client
				for s.Stats().Open > 0 {
					time.Sleep(time.Second)
				}
				if took := time.Since(began); took < tt.want || took > tt.want+3*time.Second {
					t.Errorf("dropped after %v", took)
				}
				time.Sleep(time.Second)
				want := Stats{Clients: 1, Streams: 1, Slow: 1, Requests: 1}
				switch {
				case tt.want > time.Hour:
					want.Slow, want.Requests = 0, 1+6*60
				case name == "too many":
					want.Streams, want.Requests = maxUnderWay, maxUnderWay
				}
				if got := s.Stats(); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				time.Sleep(time.Hour) // for the client to end
			})
		})
	}
}

// late asks for a stream whose time has passed.
func late(stream uint32) []byte {
	b, _ := proto.Marshal(&ttrpc.Request{Service: servicePrefix + "Logs", Method: "Watch", TimeoutNano: -1})
	return raw(frame.Request, stream, b)
}

// TestStreamTimeout: ttrpc ends a stream twice if its own timeout has passed. That makes
// no room for more than a client may have.
func TestStreamTimeout(t *testing.T) {
	s, l := serve(t, Config{Root: node{text: "here"}})
	c := l.connect()
	defer c.Close()
	go io.Copy(io.Discard, c)
	stream := uint32(1)
	for range maxUnderWay - 1 {
		c.Write(watch(stream, time.Hour))
		stream += 2
	}
	for range 200 {
		if _, err := c.Write(late(stream)); err != nil {
			t.Fatal(err)
		}
		stream += 2
	}
	sent := make(chan struct{})
	go func() {
		for range 2 {
			c.Write(watch(stream, time.Hour))
			stream += 2
		}
		close(sent)
	}()
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Following < maxUnderWay; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Stats())
		}
	}
	time.Sleep(50 * time.Millisecond)
	if n := s.Stats().Following; n != maxUnderWay {
		t.Errorf("%d streams of one client", n)
	}
	select {
	case <-sent:
		t.Error("a client has more under way than it may")
	default:
	}
}

// TestMethods: every method of the schema is served.
func TestMethods(t *testing.T) {
	_, l := serve(t, Config{Root: node{text: "here"}, Debug: true})
	for name := range methods() {
		c := l.connect()
		go c.Write(ask(1, name, &diagpb.InspectRequest{}))
		h, b, err := read(c)
		if err != nil || h.Type == frame.Response && strings.Contains(string(b), "method ") {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		c.Close()
	}
}
