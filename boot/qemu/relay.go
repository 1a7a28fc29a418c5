package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"keel/boot/handoff"
)

// A relay carries what the VM sends to the port of the key server there. The launcher
// understands none of it: it is sealed between the two.

// Bounds of a relay: the VM asks once, when it starts.
const (
	maxRelayed     = 4 // connections at a time
	relayPatience  = 10 * time.Second
	relayedForGood = 2 * time.Minute // no exchange takes as long
)

// relay listens where connections of the VM to a port arrive.
type relay struct {
	listener         net.Listener
	network, address string
	slots            chan struct{}
	busy             sync.WaitGroup
}

// openRelay starts to carry connections of the VM whose vsock is at path to an address
// (handoff.ParseKeyServer).
func openRelay(ctx context.Context, path string, port uint32, to string) (*relay, error) {
	network, address, err := handoff.ParseKeyServer(to)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", fmt.Sprintf("%s_%d", path, port))
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeHostRefused, Cause: "the VM cannot reach its key server", Err: err, Remedy: "use another, shorter --name",
		}
	}
	r := &relay{listener: l, network: network, address: address, slots: make(chan struct{}, maxRelayed)}
	go r.serve(ctx)
	return r, nil
}

func (r *relay) serve(ctx context.Context) {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		select {
		case r.slots <- struct{}{}:
			r.busy.Go(func() {
				r.carry(ctx, c)
				<-r.slots
			})
		default:
			_ = c.Close() // the VM sees that nobody is there
		}
	}
}

// carry connects a connection with the server, until one of the two ends it.
func (r *relay) carry(ctx context.Context, vm net.Conn) {
	defer vm.Close()
	server, err := (&net.Dialer{Timeout: relayPatience}).DialContext(ctx, r.network, r.address)
	if err != nil {
		return // the VM sees the end, and says that the server is absent
	}
	defer server.Close()
	end := time.Now().Add(relayedForGood)
	_, _ = vm.SetDeadline(end), server.SetDeadline(end)
	ended := make(chan struct{}, 2)
	for _, way := range [2]struct{ to, from net.Conn }{{server, vm}, {vm, server}} {
		go func() {
			_, _ = io.Copy(way.to, way.from)
			ended <- struct{}{}
		}()
	}
	<-ended
}

// close ends the relay and what it carries.
func (r *relay) close() {
	_ = r.listener.Close() // its name goes with it
	r.busy.Wait()
}
