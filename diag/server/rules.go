package server

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// access says for which images a method is there.
type access struct {
	// rule is the name that a refusal gives.
	rule string
	// confidential: also where the guest is confidential.
	confidential bool
	// release: also in images that are not for debugging.
	release bool
	// owner: with what of its owner a confidential guest allows it besides.
	owner ownership
}

// ownership is what makes a confidential guest allow what it refuses to its host alone.
type ownership int

const (
	nobody ownership = iota // nothing does
	signed                  // the owner's signature under the call: for what changes something
	sealed                  // that the stream of answers is encrypted to the owner: for what is private
)

// rules has the access of every method; what is not in it is refused. That the guest is
// confidential is part of what is measured, and so is the flavour of the image.
var rules = map[string]access{
	"Diag/Ping":    {rule: "alive", confidential: true, release: true},
	"Diag/Inspect": {rule: "public-fields", confidential: true, release: true},
	"Diag/Attest":  {rule: "evidence", confidential: true, release: true},

	"Logs/Logs":     {rule: "public-fields", confidential: true, release: true},
	"Logs/Kmsg":     {rule: "kernel-log", release: true},
	"Logs/Metrics":  {rule: "public-fields", confidential: true, release: true},
	"Logs/Watch":    {rule: "public-fields", confidential: true, release: true},
	"Logs/Settings": {rule: "public-fields", confidential: true, release: true},
	"Logs/Update":   {rule: "settings", release: true, owner: signed},

	"Control/Pause":     {rule: "guest-state", release: true, owner: signed},
	"Control/Resume":    {rule: "guest-state", release: true, owner: signed},
	"Control/Reset":     {rule: "guest-state", release: true, owner: signed},
	"Control/NMI":       {rule: "guest-state", release: true, owner: signed},
	"Control/Shutdown":  {rule: "guest-state", release: true, owner: signed},
	"Control/ExitTrace": {rule: "guest-exits", release: true},
	"Control/GuestDump": {rule: "guest-memory", release: true, owner: sealed},
	"Control/Debug":     {rule: "guest-debugger", release: true},

	// Who runs programs in VTL2, or reads its files, reads the guest's memory, and the keys
	// of its TPM.
	"Programs/Exec":     {rule: "debug-programs"},
	"Programs/Input":    {rule: "debug-programs"},
	"Programs/Resize":   {rule: "debug-programs"},
	"Programs/Signal":   {rule: "debug-programs"},
	"Programs/ReadFile": {rule: "debug-files"},
	// A profile of any kind has addresses and names of Keel's code, which the host knows
	// from the image, and how often that code ran, waited or asked for memory: no value of
	// a variable, and no label (diag/profile). How often code runs tells something of what
	// the guest does, as the counts of exits do that are private; but the host, which
	// schedules the VPs and backs the pages of the code, sees which of them run, when, and
	// far more exactly than a hundred samples a second tell.
	"Programs/Profile": {rule: "code-profiles", confidential: true, release: true},
	// A trace orders single events to the nanosecond, with numbers of processes and what
	// programs say in it: a guest's timing to a precision that no host sees of one
	// goroutine.
	"Programs/Trace": {rule: "execution-trace", release: true, owner: sealed},
	// What Keel holds of the guest in its memory: data under way, registers, the TPM's state.
	"Programs/CoreDump": {rule: "memory-dumps", release: true, owner: sealed},
	"Programs/Restart":  {rule: "worker-restart", release: true, owner: signed},
	// What a guest says on its console, and what is typed there, passwords for one.
	"Programs/Console":      {rule: "console-output", release: true},
	"Programs/ConsoleInput": {rule: "console-input", release: true},

	"Capture/PacketCapture": {rule: "storage", release: true, owner: sealed},

	"Owner/Nonce": {rule: "nonce", confidential: true, release: true},
	// What values a log has that are not marked public, nobody has looked at.
	"Owner/Journal": {rule: "full-log", release: true, owner: sealed},
}

// check refuses a method that the policy does not allow, by the name of the rule, and
// returns what it needs of the owner if that is a condition.
//
// Parameters: full is a method's name as ttrpc has it, "/keel.diag.v1.Diag/Inspect".
func (s *Server) check(full string) (ownership, error) {
	a, ok := rules[strings.TrimPrefix(full, "/"+servicePrefix)]
	keys := &s.config.Owner
	switch {
	case !ok:
		return nobody, s.deny(full, "no rule allows it")
	case s.config.Confidential && !a.confidential && a.owner == nobody:
		return nobody, s.deny(full, "the guest is confidential")
	case s.config.Confidential && a.owner == signed && keys.Signer == nil, s.config.Confidential && a.owner == sealed && keys.Recipient == nil:
		return nobody, s.deny(full, "the guest is confidential, and the image names no owner for that")
	case !s.config.Debug && !a.release:
		return nobody, s.deny(full, "the image is not for debugging")
	case s.config.Confidential && !a.confidential:
		return a.owner, nil
	}
	return nobody, nil
}

// deny counts a refusal and returns it.
func (s *Server) deny(full, why string) error {
	s.counts.denied.Add(1)
	name := strings.TrimPrefix(full, "/"+servicePrefix)
	rule := rules[name].rule
	if rule == "" {
		rule = "unlisted"
	}
	return status.Error(codes.PermissionDenied, fmt.Sprintf("rule %s refuses %s: %s", rule, name, why))
}

// quiet leaves out what an error says of what has gone wrong inside: of a call that is for
// the owner, it leaves the VM through the host.
func quiet(err error) error {
	if code := status.Code(err); code == codes.Internal || code == codes.Unknown {
		return status.Error(code, "it failed in the VM: the owner finds more in the journal")
	}
	return err
}
