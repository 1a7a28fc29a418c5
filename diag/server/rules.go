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

	"Owner/Nonce": {rule: "nonce", confidential: true, release: true},

	"Logs/Watch": {rule: "public-fields", confidential: true, release: true},
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
