package keyrelease

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"keel/diag/keyserver"
	"keel/paravisor/keyrelease"
)

// TestPlaces: connections beyond the bound are closed, and those that say nothing make room
// after a while.
func TestPlaces(t *testing.T) {
	l, dial := tcp(t)
	const silence = 300 * time.Millisecond
	s := start(t, folder(t), l, dial, parsePolicy(t, entryOf("web")), func(c *keyserver.Config) { c.Connections, c.Patience = 2, silence })
	for range 2 {
		c := must[net.Conn](t)(dial(t.Context()))
		defer c.Close()
	}
	_, err := newVM(t, "web").ask(dial)
	oneLine(t, err, keyrelease.ErrAbsent)
	deadline := time.Now().Add(patience)
	for s.Stats().Broken < 2 && time.Now().Before(deadline) {
		time.Sleep(silence / 10)
	}
	if got := s.Stats(); got.Broken != 2 || got.TurnedAway != 1 {
		t.Errorf("%+v", got)
	}
	// Whether the emulated TEE signs within this patience is the machine's mood.
	if _, err := newVM(t, "nobody").ask(dial); err == nil || !strings.Contains(err.Error(), "rule vms") {
		t.Errorf("%v", err)
	}
}

// TestRate: so often, and no oftener; the log does not grow with those turned away.
func TestRate(t *testing.T) {
	l, dial := tcp(t)
	s := start(t, folder(t), l, dial, parsePolicy(t, entryOf("web")), func(c *keyserver.Config) { c.Rate = 0.001 })
	if _, err := newVM(t, "nobody").ask(dial); err == nil || !strings.Contains(err.Error(), "rule vms") {
		t.Errorf("%v", err)
	}
	for range 20 {
		_, err := newVM(t, "nobody").ask(dial)
		oneLine(t, err, keyrelease.ErrAbsent)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Refused != 1 || got.TurnedAway != 20 || strings.Count(s.log.String(), "\n") != 2 {
		t.Errorf("%+v, %s", got, s.log)
	}
}

// TestEnd: an exchange under way ends well while the server ends; nobody new gets in.
func TestEnd(t *testing.T) {
	s, v := serve(t, entryOf("web")), newVM(t, "web")
	c := v.client()
	ended := make(chan error, 1)
	c.Evidence = func(nonce []byte) ([]byte, error) {
		go func() { ended <- s.stop() }()
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) { // until the server takes nobody any more
			probe, err := s.dial(context.Background())
			if err != nil {
				break
			}
			probe.Close()
			time.Sleep(5 * time.Millisecond)
		}
		return v.evidence(nonce)
	}
	if key, err := c.Release(t.Context(), s.dial); err != nil || len(key) != keyrelease.KeySize {
		t.Errorf("%x, %v", key, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, err := v.ask(s.dial)
	oneLine(t, err, keyrelease.ErrAbsent)
}

// TestHostile: whatever a client says, the server answers the next one.
func TestHostile(t *testing.T) {
	s := serve(t, entryOf("web"))
	for name, says := range map[string]string{
		"nothing": "", "HTTP": "GET / HTTP/1.1\r\n\r\n", "zeros": strings.Repeat("\x00", 1<<16), "half": "KLKR\x01\x00",
		"oversized": "KLKR\x01\x00\x01\x00\xff\xff\xff\xff", "version": "KLKR\x02\x00\x01\x00\x28\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			c := must[*net.TCPConn](t)(tcpConn(s.dial(t.Context())))
			defer c.Close()
			_, _ = io.WriteString(c, says)
			_ = c.CloseWrite()
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if answer, _ := io.ReadAll(io.LimitReader(c, 1<<12)); len(answer) > headerSize+keyrelease.MaxReason+64 {
				t.Errorf("%d bytes of an answer", len(answer))
			}
		})
	}
	if _, err := newVM(t, "web").ask(s.dial); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Broken != 6 || got.Released != 1 {
		t.Errorf("%+v", got)
	}
}

func tcpConn(c net.Conn, err error) (*net.TCPConn, error) {
	t, _ := c.(*net.TCPConn)
	return t, err
}
