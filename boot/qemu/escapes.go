package qemu

// escapeKey is Ctrl-A.
const escapeKey = 0x01

// Action is what the user of a raw terminal wants of the tool itself.
type Action int

// The actions, each Ctrl-A and a letter.
const (
	ActionNone Action = iota
	ActionQuit        // X
	ActionHelp        // H
)

// Escapes finds the tool's own keys in what is typed.
type Escapes struct {
	armed bool // the last key was Ctrl-A
}

// Decode returns what is meant for the other end, and what for the tool; keys
// after an action are dropped with the chunk they came in only for a quit.
func (e *Escapes) Decode(in []byte) (typed []byte, a Action) {
	for _, c := range in {
		switch {
		case !e.armed && c == escapeKey:
			e.armed = true
			continue
		case !e.armed:
			typed = append(typed, c)
			continue
		}
		e.armed = false
		switch c {
		case escapeKey, 'a':
			typed = append(typed, escapeKey)
		case 'x', 'X':
			return typed, ActionQuit
		case 'h', 'H', '?':
			a = ActionHelp
		}
	}
	return typed, a
}
