package vtl

import (
	"time"

	"keel/hcl"
)

// VPStats is what a VP did so far.
type VPStats struct {
	Run   time.Duration // of its thread on a CPU, in the guest and in Keel
	Exits [hcl.ExitKinds]uint64
}

// VPs returns what each VP did so far.
func (g *Guest) VPs() []VPStats {
	out := make([]VPStats, len(g.vps))
	for i, v := range g.vps {
		if clock := v.clock.Load(); clock != nil {
			out[i].Run = clock.Read()
		}
		for k := range hcl.ExitKinds {
			out[i].Exits[k] = v.exits[k].Load()
		}
	}
	return out
}
