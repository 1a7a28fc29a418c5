package paravisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keel/diag/diagpb"
	"keel/diag/server"
	"keel/vtl"
)

// guestControl lets clients of the diagnostics act on the guest. Where that is confidential
// only its owner may do so.
type guestControl struct {
	keel *keel
	life context.Context // of the paravisor

	mu   sync.Mutex
	user string // one of those below, empty for nobody
}

var _ server.Control = (*guestControl)(nil)

// guest is the guest.
func (c *guestControl) guest() *vtl.Guest { return c.keel.machine.guest }

// VPs is how many there are.
func (c *guestControl) VPs() int { return c.keel.config.VPs }

// Who needs the guest paused as it is.
const (
	userPause  = "another pause"
	userResume = "another resume"
	userDump   = "a dump"
	userGDB    = "a debugger"
)

// take makes somebody the only one who pauses the guest and lets it go on, until give.
func (c *guestControl) take(user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user != "" {
		return fmt.Errorf("%w: there is %s", server.ErrState, c.user)
	}
	c.user = user
	return nil
}

func (c *guestControl) give() {
	c.mu.Lock()
	c.user = ""
	c.mu.Unlock()
}

// Pause stops the guest.
func (c *guestControl) Pause(ctx context.Context) (was bool, err error) {
	if err := c.take(userPause); err != nil {
		return false, err
	}
	defer c.give()
	was = c.guest().Paused()
	return was, c.guest().Pause(ctx)
}

// Resume lets it go on.
func (c *guestControl) Resume(context.Context) (was bool, err error) {
	if err := c.take(userResume); err != nil {
		return false, err
	}
	defer c.give()
	was = c.guest().Paused()
	c.guest().Resume()
	return was, nil
}

// Reset starts the guest over, unless its memory is being read.
func (c *guestControl) Reset() (paused bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user == userDump {
		return false, fmt.Errorf("%w: there is %s", server.ErrState, userDump)
	}
	c.guest().Stop(vtl.End{Kind: vtl.EndReset, Message: "a client of the diagnostics"})
	return c.guest().Paused(), nil
}

// NMI interrupts a VP, or all. Of a confidential guest only its owner gets here, by the
// rules of diag/server: strict mode, which refuses the host's interrupts, has no say.
func (c *guestControl) NMI(vp int) (paused bool, err error) {
	for i := range c.VPs() {
		if vp < 0 || vp == i {
			c.guest().NMIAt(i)
		}
	}
	return c.guest().Paused(), nil
}

// goodbye is how long the VM lives on once its end was asked for, so that the answer
// leaves it.
const goodbye = 100 * time.Millisecond

// Shutdown presses the power button, or ends the VM.
func (c *guestControl) Shutdown(force bool) (heard, paused bool, err error) {
	paused = c.guest().Paused()
	if !force {
		return c.keel.machine.pm.PowerButton(), paused, nil
	}
	time.AfterFunc(goodbye, c.keel.end)
	return false, paused, nil
}

// end ends the VM, whatever its guest does.
func (k *keel) end() {
	k.ending.Store(true)
	k.machine.guest.Stop(vtl.End{Kind: vtl.EndStopped, Message: "ended by keel diag shutdown --force"})
}

// Of exits that are sent: how often is looked for them, and how many are in a message.
const (
	exitsPeriod = 20 * time.Millisecond
	exitsAtOnce = 1024
)

// Exits sends exits from now on.
func (c *guestControl) Exits(ctx context.Context, vp int, send func([]*diagpb.GuestExit, uint64) error) error {
	r := c.guest().Record()
	defer r.Close()
	if err := send(nil, 0); err != nil {
		return err
	}
	tick := time.NewTicker(exitsPeriod)
	defer tick.Stop()
	var records []vtl.ExitRecord
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // the client has gone
		}
		var lost uint64
		records, lost = r.Read(records[:0])
		if err := sendExits(records, lost, vp, send); err != nil {
			return err
		}
	}
	return nil
}

// sendExits sends what was recorded of a VP, or of all, in messages of bounded size.
func sendExits(records []vtl.ExitRecord, lost uint64, vp int, send func([]*diagpb.GuestExit, uint64) error) error {
	exits := make([]*diagpb.GuestExit, 0, min(len(records), exitsAtOnce))
	for i := range records {
		x := &records[i]
		if vp >= 0 && x.VP != vp {
			continue
		}
		exits = append(exits, &diagpb.GuestExit{
			TimeNs: uint64(x.Time), Vp: uint32(x.VP), Kind: x.Kind.String(), Write: x.Write, Size: uint32(x.Size),
			Rip: x.RIP, Where: x.Where, Value: x.Value,
		})
		if len(exits) == exitsAtOnce {
			if err := send(exits, lost); err != nil {
				return err
			}
			exits, lost = exits[:0], 0
		}
	}
	if len(exits) == 0 && lost == 0 {
		return nil
	}
	return send(exits, lost)
}
