package gdb

import (
	"context"
	"strings"

	"keel/vtl"
)

// breakKind is a set of kinds of breakpoints, by the digits that name them.
type breakKind uint8

const (
	breakSoftware breakKind = 1 << 0
	breakHardware breakKind = 1 << 1
)

// breakpoint answers Z and z. Both kinds are planted: the SVM that QEMU emulates does not
// stop at the debug registers of its guest. There are no watchpoints, for the same reason.
func (s *stub) breakpoint(ctx context.Context, data string) string {
	if len(data) < 3 || data[2] != ',' {
		return replyInvalid
	}
	var kind breakKind
	switch data[1] {
	case '0':
		kind = breakSoftware
	case '1':
		kind = breakHardware
	default:
		return replyUnknown
	}
	at, _, ok := span(data[3:])
	if !ok {
		return replyInvalid
	}
	if data[0] == 'Z' {
		if err := s.target.SetBreak(ctx, s.current, at); err != nil {
			return replyFault
		}
		s.breaks[at] |= kind
		return replyOK
	}
	left := s.breaks[at] &^ kind
	if s.breaks[at] = left; left != 0 {
		return replyOK
	}
	delete(s.breaks, at)
	if err := s.target.ClearBreak(at); err != nil {
		return replyFault
	}
	return replyOK
}

// resume answers c and s, and their forms with a signal, which no guest gets. An address to
// go on at is not taken: nobody sends one. A step is that of the VP that the client looks
// at.
func (s *stub) resume(ctx context.Context, data string) (string, error) {
	if data[0] == 'c' || data[0] == 'C' {
		return s.run(ctx, func(int) vtl.Action { return vtl.ActionRun })
	}
	return s.run(ctx, func(vp int) vtl.Action {
		if vp == s.current {
			return vtl.ActionStep
		}
		return vtl.ActionStay
	})
}

// verbose answers packets with long names.
func (s *stub) verbose(ctx context.Context, data string) (string, error) {
	if data == "vCont?" {
		return "vCont;c;C;s;S", nil
	}
	list, ok := strings.CutPrefix(data, "vCont;")
	if !ok {
		return replyUnknown, nil
	}
	// The first action that names a VP, or all, is that of the VP.
	actions := make([]vtl.Action, s.target.VPs())
	set := make([]bool, len(actions))
	for item := range strings.SplitSeq(list, ";") {
		verb, id, named := strings.Cut(item, ":")
		var a vtl.Action
		switch {
		case strings.HasPrefix(verb, "c"), strings.HasPrefix(verb, "C"):
			a = vtl.ActionRun
		case strings.HasPrefix(verb, "s"), strings.HasPrefix(verb, "S"):
			a = vtl.ActionStep
		default:
			return replyInvalid, nil
		}
		only, ok := s.vp(id)
		all := !named || id == "-1"
		if !ok && !all {
			return replyInvalid, nil
		}
		for vp := range actions {
			if !set[vp] && (all || vp == only) {
				actions[vp], set[vp] = a, true
			}
		}
	}
	return s.run(ctx, func(vp int) vtl.Action { return actions[vp] })
}

// run lets the guest go on. The client gets its reply when it stops.
func (s *stub) run(ctx context.Context, action func(vp int) vtl.Action) (string, error) {
	if err := s.target.Go(ctx, action); err != nil {
		return "", err
	}
	s.running = true
	return "", nil
}
