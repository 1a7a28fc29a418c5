package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/server"
	"keel/diag/vsock"
	"keel/tests/harness"
)

// The load: while the guest reads, clients ask in every second round, a minute in all.
// Their connections, with one that looks at the figures and those that behave badly, are
// as many as are served.
const (
	loadRounds  = 8
	loadSeconds = 15 // of a round
	loadPause   = time.Second
	loadAskers  = 6 // for the tree, and as many for the metrics
	loadFollows = 4 // of the tree, and as many of the log; they have two connections each
	loadBad     = server.MaxClients - 1 - 2*loadAskers - 4*loadFollows
)

// maxLoadMemory is what VTL2 may need with a disk and many clients, in bytes.
const maxLoadMemory = 64 << 20

// TestDiagnosticsLoad has many clients look into a VM while its guest reads from a disk:
// what they cost, and that nothing of them is left.
func TestDiagnosticsLoad(t *testing.T) {
	if !harness.Soak() {
		return // it needs a guest of its own, for minutes
	}
	t.Parallel()
	m := machine{virtio61x1}
	r := tool.Start(t, m.flags([]string{image(t, 64)}, ScriptLoad, fmt.Sprintf("rounds=%d", loadRounds), fmt.Sprintf("seconds=%d", loadSeconds))...)
	event := func(words string) {
		t.Helper()
		r.Until(t, words, func() bool { return HasEvent(r.Console(), words) })
	}
	event("begin 1")
	look, err := client.Dial(t.Context(), r.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	figure := func(path string) uint64 {
		t.Helper()
		f, err := look.Inspect(t.Context(), path, 0)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		n, _ := f.Value.(uint64)
		return n
	}
	goroutines, descriptors := figure("process/goroutines"), figure("process/descriptors")
	var served, busy atomic.Uint64
	for round := 2; round <= loadRounds; round += 2 {
		event(fmt.Sprintf("begin %d", round))
		if round == 2 {
			misbehave(t, r.Name)
		}
		stop := loadClients(t, r.Name, &served, &busy)
		if round == 2 {
			r.Until(t, "all clients are there", func() bool { return figure("diag/open") >= server.MaxClients-loadBad })
			crowd(t, r.Name, func() uint64 { return figure("diag/turned_away") })
		}
		event(fmt.Sprintf("end %d", round))
		stop()
	}
	t.Logf("%d answers, %d times too busy; heap %d bytes, %d turned away", served.Load(), busy.Load(), figure("process/heap"), figure("diag/turned_away"))
	r.Until(t, "the end of what clients left behind", func() bool {
		return figure("diag/slow") >= loadBad && figure("diag/open") == 1 && figure("diag/following") == 0 &&
			figure("process/goroutines") <= goroutines && figure("process/descriptors") <= descriptors
	})
	if peak := figure("memory/vtl2_peak"); peak > maxLoadMemory {
		t.Errorf("VTL2 needed %d bytes", peak)
	}
	with, without := rates(t, r.Console())
	t.Logf("%.0f reads a second without clients, %.0f with them: %.2f; %q", without, with, with/without, Events(r.Console()))
	r.KillVM(t)
	r.Wait(t, handoff.OutcomeVMLost)
}

// loadClients has clients ask until stop is called.
func loadClients(t *testing.T, vm string, served, busy *atomic.Uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	run := func(ask func(*client.Client) error) {
		wg.Go(func() {
			c, err := client.Dial(ctx, vm)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for ctx.Err() == nil {
				switch err := ask(c); {
				case err == nil:
				case errors.Is(err, client.ErrBusy):
					busy.Add(1)
				case ctx.Err() == nil:
					t.Error(err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(loadPause):
				}
			}
		})
	}
	for range loadAskers {
		run(func(c *client.Client) error {
			_, err := c.Inspect(ctx, "", server.MaxDepth)
			served.Add(1)
			return err
		})
		run(func(c *client.Client) error {
			_, err := c.Metrics(ctx)
			served.Add(1)
			return err
		})
	}
	for range loadFollows {
		run(func(c *client.Client) error {
			return c.Watch(ctx, "", server.MaxDepth, loadPause, func(*client.Tree) error { served.Add(1); return nil })
		})
		run(func(c *client.Client) error {
			return c.Logs(ctx, slog.LevelDebug, 0, true, func(*client.LogLine) error { served.Add(1); return nil })
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// misbehave connects clients that are too slow, each in its way, and leaves them.
func misbehave(t *testing.T, vm string) {
	t.Helper()
	watch := ask(t, "Logs", "Watch", &diagpb.WatchRequest{What: &diagpb.InspectRequest{Depth: server.MaxDepth}, IntervalMs: 100})
	for i, say := range [loadBad][]byte{
		ask(t, "Diag", "Ping", &diagpb.PingRequest{})[:5], // half a request
		watch, // takes no answer
		ask(t, "Diag", "Ping", &diagpb.PingRequest{}), // is never heard of again
	} {
		c := connect(t, vm)
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write(say); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
}

// crowd connects more clients than there is room for.
func crowd(t *testing.T, vm string, turnedAway func() uint64) {
	t.Helper()
	for range 2 * loadBad {
		defer connect(t, vm).Close()
	}
	for deadline := time.Now().Add(harness.Patience); turnedAway() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody was turned away")
		}
	}
}

// connect makes a connection that no library looks after.
func connect(t *testing.T, vm string) net.Conn {
	t.Helper()
	c, err := vsock.Dial(t.Context(), handoff.VsockSocket(os.Getuid(), vm), handoff.VsockDiag)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask makes the frame of a request.
func ask(t *testing.T, service, method string, request proto.Message) []byte {
	t.Helper()
	payload, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(&ttrpc.Request{Service: "keel.diag.v1." + service, Method: method, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	return frame.Append(nil, frame.Head{Stream: 1, Type: frame.Request, Flags: frame.RemoteClosed}, b)
}

// rates returns the mean reads of a second in the rounds with clients and without.
func rates(t *testing.T, console string) (with, without float64) {
	t.Helper()
	var sum [2]float64
	var n [2]int
	for _, e := range Events(console) {
		words := strings.Fields(e)
		if len(words) != 3 || words[0] != "end" {
			continue
		}
		round, err := strconv.Atoi(words[1])
		rate, err2 := strconv.ParseFloat(words[2], 64)
		if err != nil || err2 != nil || rate <= 0 {
			t.Errorf("%q", e)
		}
		sum[round%2] += rate
		n[round%2]++
	}
	if n != [2]int{loadRounds / 2, loadRounds / 2} {
		t.Fatalf("rounds: %v", n)
	}
	return sum[0] / float64(n[0]), sum[1] / float64(n[1])
}
