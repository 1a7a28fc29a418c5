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
}

// rules has the access of every method; what is not in it is refused. That the guest is
// confidential is part of what is measured, and so is the flavour of the image.
var rules = map[string]access{
	"Diag/Ping":    {rule: "alive", confidential: true, release: true},
	"Diag/Inspect": {rule: "public-fields", confidential: true, release: true},
	"Diag/Attest":  {rule: "evidence", confidential: true, release: true},

	"Logs/Watch": {rule: "public-fields", confidential: true, release: true},

	"Capture/PacketCapture": {rule: "storage", release: true},
}

// check refuses a method that the policy does not allow, by the name of the rule.
//
// Parameters: full is a method's name as ttrpc has it, "/keel.diag.v1.Diag/Inspect".
func (s *Server) check(full string) error {
	name := strings.TrimPrefix(full, "/keel.diag.v1.")
	a, ok := rules[name]
	why := ""
	switch {
	case !ok:
		a.rule, why = "unlisted", "no rule allows it"
	case s.config.Confidential && !a.confidential:
		why = "the guest is confidential"
	case !s.config.Debug && !a.release:
		why = "the image is not for debugging"
	default:
		return nil
	}
	s.counts.denied.Add(1)
	return status.Error(codes.PermissionDenied, fmt.Sprintf("rule %s refuses %s: %s", a.rule, name, why))
}
