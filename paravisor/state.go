package paravisor

import (
	"keel/diag/inspect"
)

// Inspect writes the machine's parts.
func (m *machine) Inspect(f *inspect.Fields) {
	if m.tpm != nil {
		f.Node("tpm", m.tpm, "the guest's TPM")
	}
}

// Inspect writes the TPM's counters and those of its registers.
func (t *tpm) Inspect(f *inspect.Fields) {
	t.engine.Inspect(f)
	f.Uint("register_writes_ignored", inspect.Private, inspect.Count, t.ignored(), "writes to the TPM's registers that had no effect")
}

// stateDepth is more than any part of the tree has levels.
const stateDepth = 16

// state returns the tree for the run report, nil when there is nothing in it. The host
// sees all of a machine that is not confidential: there is no other yet.
func (m *machine) state() map[string]any {
	root, err := inspect.Look(m, "", stateDepth)
	if err != nil || len(root.Fields) == 0 {
		return nil
	}
	all, _ := root.Plain(inspect.Private)
	state, _ := all.(map[string]any)
	return state
}
