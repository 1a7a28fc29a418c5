package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/inspect"
)

// node is a tree whose only field may be long, or late.
type node struct {
	text string
	wait chan struct{} // nil, or closed when it may answer
}

func (n node) Inspect(f *inspect.Fields) {
	if n.wait != nil {
		<-n.wait
	}
	f.Text("text", inspect.Public, n.text, "a text")
}

// listener hands out the connections that a test makes.
type listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

// connect is a client's connection.
func (l *listener) connect() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

// serve serves until the test ends, and wants nothing to be left.
func serve(t *testing.T, c Config) (*Server, *listener) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, start(t, s)
}

// start serves with a server until the test ends.
func start(t *testing.T, s *Server) *listener {
	t.Helper()
	l := newListener()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := s.Stats().Open; n != 0 {
			t.Errorf("%d clients outlive their server", n)
		}
	})
	return l
}

// request is a frame that asks for a method of the service Diag.
func request(stream uint32, method string, message proto.Message) []byte {
	return ask(stream, "Diag/"+method, message)
}

// ask is a frame that asks for a method.
func ask(stream uint32, method string, message proto.Message) []byte {
	payload, _ := proto.Marshal(message)
	service, name, _ := strings.Cut(method, "/")
	b, _ := proto.Marshal(&ttrpc.Request{Service: servicePrefix + service, Method: name, Payload: payload})
	return raw(frame.Request, stream, b)
}

func raw(kind byte, stream uint32, data []byte) []byte {
	return frame.Append(nil, frame.Head{Stream: stream, Type: kind}, data)
}

// read reads one frame.
func read(c net.Conn) (frame.Head, []byte, error) {
	var head [frame.HeadBytes]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return frame.Head{}, nil, err
	}
	h := frame.Parse(&head)
	b := make([]byte, h.Length)
	_, err := io.ReadFull(c, b)
	return h, b, err
}

// answer reads a response.
func answer(c net.Conn) (stream uint32, r *ttrpc.Response, err error) {
	h, b, err := read(c)
	if err == nil && h.Type != frame.Response {
		err = fmt.Errorf("a frame of type %d", h.Type)
	}
	if err != nil {
		return 0, nil, err
	}
	r = &ttrpc.Response{}
	return h.Stream, r, proto.Unmarshal(b, r)
}

// code is how the VM answers a request.
func code(t *testing.T, c net.Conn, b []byte) codes.Code {
	t.Helper()
	go c.Write(b)
	_, r, err := answer(c)
	if err != nil {
		t.Fatal(err)
	}
	return codes.Code(r.GetStatus().GetCode())
}

// dropped waits for the server to end a connection.
func dropped(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestRequests(t *testing.T) {
	_, l := serve(t, Config{Root: node{text: "here"}})
	c := l.connect()
	defer c.Close()
	stream := uint32(1)
	for _, tt := range []struct {
		method string
		m      proto.Message
		want   codes.Code
	}{
		{"Inspect", &diagpb.InspectRequest{}, codes.OK},
		{"Inspect", &diagpb.InspectRequest{Path: "text", Depth: MaxDepth}, codes.OK},
		{"Inspect", &diagpb.InspectRequest{Path: "none"}, codes.NotFound},
		{"Inspect", &diagpb.InspectRequest{Path: strings.Repeat("x", MaxPath+1)}, codes.InvalidArgument},
		{"Inspect", &diagpb.InspectRequest{Depth: MaxDepth + 1}, codes.InvalidArgument},
		{"Attest", &diagpb.AttestRequest{Nonce: make([]byte, 32)}, codes.FailedPrecondition},
		{"Unheard", &diagpb.AttestRequest{}, codes.Unimplemented},
		{"Inspect", &diagpb.InspectRequest{}, codes.OK}, // all of that has done no harm
	} {
		if got := code(t, c, request(stream, tt.method, tt.m)); got != tt.want {
			t.Errorf("%s %.40v: %v, want %v", tt.method, tt.m, got, tt.want)
		}
		stream += 2
	}
	if got := code(t, c, raw(frame.Request, stream, []byte("\xff\xff"))); got != codes.InvalidArgument {
		t.Errorf("no protobuf: %v", got)
	}
	// The message within is malformed.
	inner, _ := proto.Marshal(&ttrpc.Request{Service: "keel.diag.v1.Diag", Method: "Inspect", Payload: []byte{0xff}})
	if got := code(t, c, raw(frame.Request, stream+2, inner)); got != codes.InvalidArgument {
		t.Errorf("no message: %v", got)
	}
}

func TestCounts(t *testing.T) {
	var log strings.Builder
	s, l := serve(t, Config{Root: node{text: strings.Repeat("x", maxAnswer)}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := l.connect()
	defer c.Close()
	code(t, c, request(1, "Attest", &diagpb.AttestRequest{Nonce: make([]byte, 16)}))
	if got := code(t, c, request(3, "Inspect", &diagpb.InspectRequest{Path: "text"})); got != codes.ResourceExhausted {
		t.Errorf("a long answer: %v", got)
	}
	code(t, c, request(5, "Inspect", &diagpb.InspectRequest{Path: "none"}))
	code(t, c, request(7, "Attest", &diagpb.AttestRequest{}))
	for range 3 * maxWarnings {
		bad := l.connect()
		bad.Write(raw(3, 1, nil))
		dropped(t, bad)
	}
	want := Stats{Open: 1, Clients: 1 + 3*maxWarnings, BadFrames: 3 * maxWarnings, Requests: 4, Invalid: 1, Refused: 3}
	if got := s.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := strings.Count(log.String(), "\n"); n != maxWarnings {
		t.Errorf("%d lines of log", n)
	}
	root, err := inspect.Look(s, "bad_frames", 1)
	if err != nil || root.Value != uint64(3*maxWarnings) || root.Sensitivity != inspect.Public {
		t.Errorf("%+v, %v", root, err)
	}
}

// TestBadFrames sends what ends a connection, ttrpc's server or the memory of the VM, if
// it got through.
func TestBadFrames(t *testing.T) {
	wait := make(chan struct{})
	s, l := serve(t, Config{Root: node{wait: wait}})
	inspect := request(1, "Inspect", &diagpb.InspectRequest{})
	for name, b := range map[string][]byte{
		"data for a request under way": append(append([]byte{}, inspect...), raw(3, 1, []byte("x"))...),
		"data for nothing":             raw(3, 5, []byte("x")),
		"a response":                   raw(frame.Response, 1, nil),
		"an unknown type":              raw(99, 1, nil),
		"a long request":               raw(frame.Request, 1, make([]byte, maxRequest+1)),
		"a length of 4 GiB":            {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, frame.Request, 0},
		"HTTP":                         []byte("GET / HTTP/1.1\r\n\r\n"),
		"a promise of data":            frame.Append(nil, frame.Head{Stream: 1, Type: frame.Request, Flags: frame.RemoteOpen}, nil),
		"an even stream":               request(2, "Inspect", &diagpb.InspectRequest{}),
		"a stream that was used":       append(request(3, "Unheard", &diagpb.InspectRequest{}), request(3, "Inspect", &diagpb.InspectRequest{})...),
		"a stream before the last":     append(request(3, "Unheard", &diagpb.InspectRequest{}), request(1, "Inspect", &diagpb.InspectRequest{})...),
	} {
		before := s.Stats().BadFrames
		c := l.connect()
		go c.Write(b)
		dropped(t, c)
		if s.Stats().BadFrames != before+1 {
			t.Errorf("%s: not counted", name)
		}
	}
	c := l.connect()
	c.Write(inspect[:len(inspect)-1])
	c.Close()
	close(wait)
	if got := code(t, l.connect(), inspect); got != codes.OK {
		t.Errorf("%v", got)
	}
}

// TestSlow lets clients be too slow, each in its way, in a time of their own.
func TestSlow(t *testing.T) {
	inspect := request(1, "Inspect", &diagpb.InspectRequest{Path: "text"})
	times := times{idle: 2 * time.Minute, frame: 10 * time.Second, stall: 10 * time.Second}
	for name, tt := range map[string]struct {
		slow func(c net.Conn)
		want time.Duration
	}{
		"says nothing":           {func(net.Conn) {}, times.idle},
		"stops within a head":    {func(c net.Conn) { c.Write(inspect[:3]) }, times.frame},
		"stops within a request": {func(c net.Conn) { c.Write(inspect[:frame.HeadBytes+2]) }, times.frame},
		"trickles": {func(c net.Conn) {
			for i := range inspect {
				if _, err := c.Write(inspect[i : i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, times.frame},
		"takes no answer": {func(c net.Conn) { c.Write(inspect); time.Sleep(time.Hour) }, times.stall},
		"goes idle":       {func(c net.Conn) { c.Write(inspect); answer(c); time.Sleep(time.Second) }, times.idle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := serve(t, Config{Root: node{text: "here"}})
				began := time.Now()
				c := l.connect()
				go tt.slow(c)
				synctest.Wait() // until it is a client
				for s.Stats().Open > 0 {
					time.Sleep(time.Second)
				}
				if took := time.Since(began); took < tt.want || took > tt.want+3*time.Second {
					t.Errorf("dropped after %v", took)
				}
				if s.Stats().Slow != 1 {
					t.Errorf("%+v", s.Stats())
				}
				time.Sleep(2 * time.Hour) // for the client to end
			})
		})
	}
}

// TestBounds has too many clients, and one with too many requests under way.
func TestBounds(t *testing.T) {
	wait := make(chan struct{})
	s, l := serve(t, Config{Root: node{wait: wait}})
	var clients []net.Conn
	for range MaxClients {
		clients = append(clients, l.connect())
	}
	dropped(t, l.connect())
	if n := s.Stats(); n.Open != MaxClients || n.TurnedAway != 1 {
		t.Errorf("%+v", n)
	}
	const most = 100
	sent := make(chan int, most)
	go func() {
		for i := range most {
			if _, err := clients[0].Write(request(uint32(2*i+1), "Inspect", &diagpb.InspectRequest{})); err != nil {
				return
			}
			sent <- i
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Requests < maxUnderWay && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if n := s.Stats().Requests; n != maxUnderWay || len(sent) != maxUnderWay {
		t.Errorf("%d requests under way, %d sent", n, len(sent))
	}
	close(wait)
	seen := map[uint32]bool{}
	for range most {
		stream, r, err := answer(clients[0])
		if err != nil || r.GetStatus().GetCode() != 0 || seen[stream] {
			t.Fatalf("%d: %v, %v", stream, r, err)
		}
		seen[stream] = true
	}
	for _, c := range clients {
		c.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Stats())
		}
	}
	if got := code(t, l.connect(), request(1, "Inspect", &diagpb.InspectRequest{})); got != codes.OK { // there is room again
		t.Errorf("%v", got)
	}
}

// TestBusy keeps all turns taken.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := serve(t, Config{Root: node{}, Attest: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}})
		got := make(chan codes.Code, 2*maxTurns)
		for range cap(got) {
			go func() {
				got <- code(t, l.connect(), request(1, "Attest", &diagpb.AttestRequest{Nonce: make([]byte, 16)}))
			}()
		}
		count := map[codes.Code]int{}
		for range cap(got) {
			count[<-got]++
		}
		if count[codes.DeadlineExceeded]+count[codes.ResourceExhausted] != cap(got) || count[codes.DeadlineExceeded] < maxTurns {
			t.Errorf("%v", count)
		}
		if n := s.Stats(); n.Busy != uint64(count[codes.ResourceExhausted]) {
			t.Errorf("%+v, %v", n, count)
		}
	})
}

func TestAttest(t *testing.T) {
	_, l := serve(t, Config{Root: node{}, Attest: func(_ context.Context, nonce []byte) ([]byte, error) {
		switch nonce[0] {
		case 0:
			return nil, errors.New("no report")
		case 1:
			return make([]byte, 1<<20), nil
		}
		return nonce, nil
	}})
	c := ttrpc.NewClient(l.connect())
	defer c.Close()
	for first, want := range map[byte]codes.Code{0: codes.Internal, 1: codes.Internal, 2: codes.OK} {
		nonce := append([]byte{first}, make([]byte, 31)...)
		r, err := diagpb.NewDiagClient(c).Attest(t.Context(), &diagpb.AttestRequest{Nonce: nonce})
		if status.Code(err) != want || err == nil && string(r.GetEvidence()) != string(nonce) {
			t.Errorf("%d: %v, %v", first, r, err)
		}
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := diagpb.NewDiagClient(c).Attest(t.Context(), &diagpb.AttestRequest{Nonce: make([]byte, n)}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestLeaks serves many clients over a Unix socket and looks for what is left.
func TestLeaks(t *testing.T) {
	s, err := New(Config{Root: node{text: "here"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	before := runtime.NumGoroutine()
	go func() { done <- s.Serve(ctx, l) }()
	var all sync.WaitGroup
	for i := range MaxClients {
		all.Go(func() {
			for range 5 {
				raw, err := net.Dial("unix", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				c := ttrpc.NewClient(raw)
				for range 10 {
					if _, err := diagpb.NewDiagClient(c).Inspect(ctx, &diagpb.InspectRequest{Depth: 3}); err != nil && i > 0 && !errors.Is(err, ttrpc.ErrClosed) {
						t.Error(err)
					}
				}
				c.Close()
			}
		})
	}
	all.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}

func TestAnswers(t *testing.T) {
	written := slices.Concat(
		raw(frame.Response, 1, []byte("abc")),
		raw(frame.Data, 3, []byte("goes on")),
		raw(frame.Response, 5, nil),
		frame.Append(nil, frame.Head{Stream: 3, Type: frame.Data, Flags: frame.RemoteClosed | frame.NoData}, nil),
	)
	for size := 1; size <= len(written); size++ {
		var a answers
		var ended []uint32
		for rest := written; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			a.ends(rest[:min(size, len(rest))], func(stream uint32) { ended = append(ended, stream) })
		}
		if !slices.Equal(ended, []uint32{1, 5, 3}) {
			t.Errorf("in pieces of %d: streams %d have ended", size, ended)
		}
	}
}
