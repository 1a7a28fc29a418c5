package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keel/diag/diagpb"
	"keel/diag/server"
)

// fakeGuest is a guest of two VPs.
type fakeGuest struct {
	paused bool
	nmis   []int
	forced bool
	fail   error
}

func (g *fakeGuest) VPs() int { return 2 }

func (g *fakeGuest) Pause(context.Context) (was bool, err error) {
	was, g.paused = g.paused, true
	return was, g.fail
}

func (g *fakeGuest) Resume(context.Context) (was bool, err error) {
	was, g.paused = g.paused, false
	return was, g.fail
}

func (g *fakeGuest) Reset() (bool, error) { return g.paused, g.fail }

func (g *fakeGuest) NMI(vp int) (bool, error) {
	g.nmis = append(g.nmis, vp)
	return g.paused, g.fail
}

func (g *fakeGuest) Shutdown(force bool) (heard, paused bool, err error) {
	g.forced = force
	return !force, g.paused, g.fail
}

func (g *fakeGuest) Exits(ctx context.Context, vp int, send func([]*diagpb.GuestExit, uint64) error) error {
	if g.fail != nil {
		return g.fail
	}
	err := send([]*diagpb.GuestExit{{TimeNs: 7, Vp: uint32(max(vp, 0)), Kind: "pio\x1b", Write: true, Size: 1, Rip: 1 << 63, Where: 0x3f8, Value: 0x41}}, 3)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (g *fakeGuest) Dump(_ context.Context, send func(*diagpb.FilePiece) error) error {
	return errors.Join(send(&diagpb.FilePiece{Data: []byte("head"), Zeros: 8192}), send(&diagpb.FilePiece{Data: []byte("tail")}), g.fail)
}

func (g *fakeGuest) Debug(bool) (uint32, error) { return 0, g.fail }

func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	g := &fakeGuest{}
	start(t, path, server.Config{Root: &part{}, Control: g})
	c := dial(t, path)
	ctx := t.Context()
	for i, want := range []bool{false, true} {
		if was, err := c.Pause(ctx); was != want || err != nil {
			t.Errorf("pause %d: %v, %v", i, was, err)
		}
	}
	if paused, err := c.NMI(ctx, -1); !paused || err != nil {
		t.Errorf("%v, %v", paused, err)
	}
	if paused, err := c.Reset(ctx); !paused || err != nil {
		t.Errorf("%v, %v", paused, err)
	}
	for i, want := range []bool{true, false} {
		if was, err := c.Resume(ctx); was != want || err != nil {
			t.Errorf("resume %d: %v, %v", i, was, err)
		}
	}
	if _, err := c.NMI(ctx, 1); err != nil || !slices.Equal(g.nmis, []int{-1, 1}) {
		t.Errorf("%v, %v", g.nmis, err)
	}
	if _, err := c.NMI(ctx, 2); !errors.Is(err, ErrRequest) {
		t.Errorf("%v", err)
	}
	for _, force := range []bool{false, true} {
		if heard, _, err := c.Shutdown(ctx, force); heard == force || g.forced != force || err != nil {
			t.Errorf("%v, %v, %v", force, heard, err)
		}
	}
	if err := c.CanDebug(ctx); !errors.Is(err, ErrAnswer) {
		t.Errorf("no port: %v", err)
	}
}

func TestExits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, server.Config{Root: &part{}, Control: &fakeGuest{}})
	c := dial(t, path)
	n := 0
	if err := c.Exits(t.Context(), 1, 50*time.Millisecond, func(exits []GuestExit, lost uint64) error {
		want := GuestExit{Time: 7, VP: 1, Kind: "pio ", Write: true, Size: 1, RIP: 1 << 63, Where: 0x3f8, Value: 0x41}
		if n++; len(exits) != 1 || exits[0] != want || lost != 3 {
			t.Errorf("%+v, %d", exits, lost)
		}
		return nil
	}); err != nil || n != 1 {
		t.Errorf("%d messages, %v", n, err)
	}
	for _, tt := range []struct {
		vp       int
		duration time.Duration
	}{{2, time.Second}, {-1, -1}, {-1, time.Microsecond}, {-1, 2 * time.Hour}, {-1, 100 * time.Hour}} {
		if err := c.Exits(t.Context(), tt.vp, tt.duration, func([]GuestExit, uint64) error { return nil }); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if err := c.Exits(t.Context(), -1, 0, func([]GuestExit, uint64) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Errorf("%v", err)
	}
}

func TestDump(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	g := &fakeGuest{}
	start(t, path, server.Config{Root: &part{}, Control: g})
	c := dial(t, path)
	want := "head" + strings.Repeat("\x00", 8192) + "tail"
	var b bytes.Buffer
	if err := c.Dump(t.Context(), &b); err != nil || b.String() != want {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Dump(t.Context(), f); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(f.Name()); string(got) != want || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	g.fail = errors.New("broken")
	if err := c.Dump(t.Context(), &b); !errors.Is(err, ErrAnswer) {
		t.Errorf("half a file: %v", err)
	}
}

// TestControlRefused: what the state of a VM does not allow, and what breaks.
func TestControlRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	g, untouched := &fakeGuest{}, &fakeGuest{}
	start(t, path, server.Config{Root: &part{}, Control: g})
	confidential, nothing := filepath.Join(t.TempDir(), "c"), filepath.Join(t.TempDir(), "n")
	start(t, confidential, server.Config{Root: &part{}, Control: untouched, Confidential: true})
	start(t, nothing, server.Config{Root: &part{}})
	calls := map[string]func(c *Client) error{
		"Pause":    func(c *Client) error { _, err := c.Pause(t.Context()); return err },
		"Resume":   func(c *Client) error { _, err := c.Resume(t.Context()); return err },
		"Reset":    func(c *Client) error { _, err := c.Reset(t.Context()); return err },
		"NMI":      func(c *Client) error { _, err := c.NMI(t.Context(), 0); return err },
		"Shutdown": func(c *Client) error { _, _, err := c.Shutdown(t.Context(), true); return err },
		"ExitTrace": func(c *Client) error {
			return c.Exits(t.Context(), 0, 0, func([]GuestExit, uint64) error { return nil })
		},
		"Debug": func(c *Client) error { _, err := c.Debug(t.Context()); return err },
	}
	for name, call := range calls {
		for want, fail := range map[error]error{
			ErrRefused: fmt.Errorf("%w: there is a debugger", server.ErrState),
			ErrLost:    context.DeadlineExceeded,
			ErrAnswer:  errors.New("the substrate broke"),
		} {
			g.fail = fail
			if err := call(dial(t, path)); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if err := call(dial(t, confidential)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "refuses Control/"+name) {
			t.Errorf("%s of a confidential guest: %v", name, err)
		}
		if err := call(dial(t, nothing)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s with nothing behind it: %v", name, err)
		}
	}
	if untouched.nmis != nil || untouched.forced {
		t.Errorf("a confidential guest was touched: %+v", untouched)
	}
}
