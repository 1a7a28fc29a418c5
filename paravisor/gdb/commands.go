package gdb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
)

// Replies. Errors have numbers, which no client looks at; an empty reply says that the
// packet is not known.
const (
	replyOK      = "OK"
	replyUnknown = ""
	replyInvalid = "E16" // EINVAL, in hexadecimal
	replyFault   = "E0e" // EFAULT
)

// command answers a packet, unless it makes the guest run. The error ends the connection:
// the substrate broke.
func (s *stub) command(ctx context.Context, data string) (string, error) {
	if data == "" {
		return replyUnknown, nil
	}
	rest := data[1:]
	switch data[0] {
	case '?':
		return s.stopped(), nil
	case 'g':
		return s.readAll(ctx)
	case 'G':
		return s.writeAll(ctx, rest)
	case 'p':
		return s.readOne(ctx, rest)
	case 'P':
		return s.writeOne(ctx, rest)
	case 'm':
		return s.readMemory(ctx, rest), nil
	case 'M':
		return s.writeMemory(ctx, rest), nil
	case 'H':
		return s.choose(rest), nil
	case 'T':
		return s.alive(rest), nil
	case 'Z', 'z':
		return s.breakpoint(ctx, data), nil
	case 'c', 'C', 's', 'S':
		return s.resume(ctx, data)
	case 'v':
		return s.verbose(ctx, data)
	case 'q', 'Q':
		return s.query(ctx, data), nil
	case 'D':
		s.over = true
		return replyOK, nil
	case 'k': // nobody kills a guest in this way
		s.over = true
	}
	return replyUnknown, nil
}

// state reads the registers of the VP that the client looks at.
func (s *stub) state(ctx context.Context) (x state, err error) {
	x.general, x.special, err = s.target.Registers(ctx, s.current)
	return x, err
}

// readAll answers g.
func (s *stub) readAll(ctx context.Context) (string, error) {
	x, err := s.state(ctx)
	var b strings.Builder
	for i := range registers {
		b.WriteString(registers[i].text(&x))
	}
	return b.String(), err
}

// writeAll answers G. What cannot be changed stays.
func (s *stub) writeAll(ctx context.Context, text string) (string, error) {
	x, err := s.state(ctx)
	if err != nil {
		return "", err
	}
	for i := range registers {
		r := &registers[i]
		n := r.digits()
		if len(text) < n || !r.set(&x, text[:n]) && !r.fixed {
			return replyInvalid, nil
		}
		text = text[n:]
	}
	return replyOK, s.target.SetRegisters(ctx, s.current, &x.general, &x.special)
}

// readOne answers p.
func (s *stub) readOne(ctx context.Context, text string) (string, error) {
	n, ok := number(text)
	if !ok || n >= uint64(len(registers)) {
		return replyInvalid, nil
	}
	x, err := s.state(ctx)
	return registers[n].text(&x), err
}

// writeOne answers P.
func (s *stub) writeOne(ctx context.Context, text string) (string, error) {
	which, value, _ := strings.Cut(text, "=")
	n, ok := number(which)
	if !ok || n >= uint64(len(registers)) {
		return replyInvalid, nil
	}
	x, err := s.state(ctx)
	if err != nil {
		return "", err
	}
	if !registers[n].set(&x, value) {
		return replyInvalid, nil
	}
	return replyOK, s.target.SetRegisters(ctx, s.current, &x.general, &x.special)
}

// span reads an address and a length, apart by a comma.
func span(text string) (at, n uint64, ok bool) {
	first, second, _ := strings.Cut(text, ",")
	at, ok1 := number(first)
	n, ok2 := number(second)
	return at, n, ok1 && ok2
}

// readMemory answers m: with less than was asked for where there is no more.
func (s *stub) readMemory(ctx context.Context, text string) string {
	at, n, ok := span(text)
	if !ok || n > PacketSize/2 {
		return replyInvalid
	}
	b := make([]byte, n)
	got, err := s.target.Read(ctx, s.current, at, b)
	if err != nil {
		return replyFault
	}
	return hex.EncodeToString(b[:got])
}

// writeMemory answers M.
func (s *stub) writeMemory(ctx context.Context, text string) string {
	where, digits, _ := strings.Cut(text, ":")
	at, n, ok := span(where)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || uint64(len(b)) != n {
		return replyInvalid
	}
	if err := s.target.Write(ctx, s.current, at, b); err != nil {
		return replyFault
	}
	return replyOK
}

// vp is the VP of a thread. Any and all are the one that the client looks at.
func (s *stub) vp(text string) (int, bool) {
	if text == "-1" || text == "0" {
		return s.current, true
	}
	n, ok := number(text)
	if !ok || n == 0 || n > uint64(s.target.VPs()) {
		return 0, false
	}
	return int(n) - 1, true
}

// choose answers H: for reading (g), or for c and s (c), which concern all VPs or the one
// that the client looks at.
func (s *stub) choose(text string) string {
	if text == "" {
		return replyInvalid
	}
	vp, ok := s.vp(text[1:])
	if !ok {
		return replyInvalid
	}
	if text[0] == 'g' {
		s.current = vp
	}
	return replyOK
}

// alive answers T.
func (s *stub) alive(text string) string {
	if _, ok := s.vp(text); !ok {
		return replyInvalid
	}
	return replyOK
}

// query answers general queries.
func (s *stub) query(ctx context.Context, data string) string {
	name, arguments, _ := strings.Cut(data, ":")
	switch name {
	case "qSupported":
		return fmt.Sprintf("PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+", PacketSize)
	case "QStartNoAckMode":
		s.acks = false
		return replyOK
	case "qAttached": // to something that was there before
		return "1"
	case "qC":
		return fmt.Sprintf("QC%x", thread(s.current))
	case "qfThreadInfo":
		var all []string
		for vp := range s.target.VPs() {
			all = append(all, fmt.Sprintf("%x", thread(vp)))
		}
		return "m" + strings.Join(all, ",")
	case "qsThreadInfo":
		return "l"
	case "qXfer":
		return describe(arguments)
	}
	if id, ok := strings.CutPrefix(data, "qThreadExtraInfo,"); ok {
		return s.extra(ctx, id)
	}
	return replyUnknown
}

// extra answers qThreadExtraInfo, in words for people.
func (s *stub) extra(ctx context.Context, id string) string {
	vp, ok := s.vp(id)
	if !ok {
		return replyInvalid
	}
	doing, err := s.target.Doing(ctx, vp)
	if err != nil {
		return replyFault
	}
	return hex.EncodeToString(fmt.Appendf(nil, "VP %d, %s", vp, doing))
}

// describe answers qXfer for a part of the target description.
func describe(arguments string) string {
	where, ok := strings.CutPrefix(arguments, "features:read:target.xml:")
	if !ok {
		return replyUnknown
	}
	at, n, ok := span(where)
	if !ok || at > uint64(len(description)) {
		return replyInvalid
	}
	part := description[at:]
	// Escapes make the packet longer, by at most as much again.
	if n = min(n, PacketSize/2-1); uint64(len(part)) > n {
		return "m" + part[:n]
	}
	return "l" + part
}
