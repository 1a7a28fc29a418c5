package hcl

import (
	"errors"
	"fmt"
	"sync/atomic"

	"keel/diag/inspect"
)

// HostRequest is a kind of what Keel asks of its host, or lets it do.
type HostRequest int

// The kinds.
const (
	HostAccept      HostRequest = iota // to give a page of the guest to the VM
	HostMemory                         // to map further memory
	HostRegisters                      // accesses to registers of a device that Keel drives, its doorbells among them
	HostDevice                         // to take over a device
	HostFile                           // to read a file of the configuration device
	HostKeyServer                      // to have the key server release a key
	HostReport                         // to tell the key server how far the TPM's state has come
	HostNMI                            // to interrupt the guest when the host says so
	HostConsole                        // to carry the guest's console
	HostControl                        // to hear commands, and to tell events and the log
	HostDiagnostics                    // to answer the diagnostics service's clients
	HostEnd                            // to end the VM

	HostRequests // how many there are
)

// HostRow is a line of the list.
type HostRow struct {
	Name    string
	Running bool // allowed while the guest runs
	// Asked says that each request passes a Gate. Others are made by VTL2's kernel, or
	// were opened before the guest ran: they are declared, and nothing more.
	Asked  bool
	Reason string
}

// HostTable is the list of all that Keel needs of its host, and when.
var HostTable = [HostRequests]HostRow{
	HostAccept:      {"accept", true, true, "memory is accepted when it is first used; a page never goes back"},
	HostMemory:      {"memory", false, true, "all memory is mapped before the guest runs"},
	HostRegisters:   {"registers", true, false, "disks and the TPM's state; VTL2's kernel has mapped them into Keel"},
	HostDevice:      {"device", false, true, "devices are taken over before the guest runs"},
	HostFile:        {"file", false, true, "kernel and initrd are loaded, and measured, before the guest runs, at each of its starts"},
	HostKeyServer:   {"key-server", false, true, "the key of the TPM's state is fetched before the guest runs"},
	HostReport:      {"state-report", true, true, "the key server hears of the newest state, so that the host cannot bring back an older one"},
	HostNMI:         {"nmi", false, true, "interrupts come from Keel alone"},
	HostConsole:     {"console", true, false, "what the configuration's console mode allows"},
	HostControl:     {"control", true, false, "how the run went, in bounded lines"},
	HostDiagnostics: {"diagnostics", true, false, "evidence for whoever asks, and public fields"},
	HostEnd:         {"end", true, false, "power-off and reset of the VM"},
}

// ErrStrict says that strict mode refused a request.
var ErrStrict = errors.New("refused in strict mode")

// Gate is what requests to the host pass in strict mode. A nil Gate lets everything
// pass. All methods may be called from any goroutine.
type Gate struct {
	kill    func(HostRequest) // nil: refusals are only counted
	running atomic.Bool
	allowed [HostRequests]atomic.Uint64
	refused [HostRequests]atomic.Uint64
	fatal   atomic.Pointer[HostRequest]
}

// NewGate makes a gate. kill, unless it is nil, is called once, at the first refusal.
func NewGate(kill func(HostRequest)) *Gate { return &Gate{kill: kill} }

// Running says that the guest runs, or that it does not. While it does not, as before its
// first instruction and between a reset and the next start, everything is allowed.
func (g *Gate) Running(on bool) {
	if g != nil {
		g.running.Store(on)
	}
}

// Ask returns an error that wraps ErrStrict if the request must not be made.
func (g *Gate) Ask(r HostRequest) error {
	if g == nil || !g.running.Load() {
		return nil
	}
	if HostTable[r].Running {
		g.allowed[r].Add(1)
		return nil
	}
	g.refused[r].Add(1)
	if g.kill != nil && g.fatal.CompareAndSwap(nil, &r) {
		g.kill(r)
	}
	return fmt.Errorf("%w: %s, while the guest runs: %s", ErrStrict, HostTable[r].Name, HostTable[r].Reason)
}

// Fatal returns the request that ended the VM.
func (g *Gate) Fatal() (HostRequest, bool) {
	if g == nil || g.fatal.Load() == nil {
		return 0, false
	}
	return *g.fatal.Load(), true
}

// Refused is how often a kind of request was refused.
func (g *Gate) Refused(r HostRequest) uint64 {
	if g == nil {
		return 0
	}
	return g.refused[r].Load()
}

// Inspect writes the mode, and for each kind that passes the gate how often it was
// allowed while the guest ran, or refused.
func (g *Gate) Inspect(f *inspect.Fields) {
	mode := "count"
	if g.kill != nil {
		mode = "kill"
	}
	f.Text("mode", inspect.Public, mode, "what becomes of requests to the host that are not on the list")
	for r, row := range HostTable {
		switch {
		case row.Asked && row.Running:
			f.Uint("allowed_"+row.Name, inspect.Public, inspect.Count, g.allowed[r].Load(), row.Reason)
		case row.Asked:
			f.Uint("refused_"+row.Name, inspect.Public, inspect.Count, g.refused[r].Load(), row.Reason)
		}
	}
}

// Guarded is a partition that asks its host for something.
type Guarded interface {
	// Guard makes all further requests pass a gate.
	// Preconditions: no VP was made yet.
	Guard(g *Gate)
}
