package paravisor

import (
	"strconv"

	"keel/diag/inspect"
	"keel/hcl"
	"keel/vtl"
)

// vps is the node of the virtual processors, by number.
type vps struct{ guest *vtl.Guest }

// Inspect writes what each did.
func (v vps) Inspect(f *inspect.Fields) {
	for i, stats := range v.guest.VPs() {
		f.Node(strconv.Itoa(i), (*vp)(&stats), "a virtual processor")
	}
}

// vp is the node of a virtual processor.
type vp vtl.VPStats

// Inspect writes what it did. The host sees when the VM runs, and for whom.
func (v *vp) Inspect(f *inspect.Fields) {
	f.Uint("run", inspect.Public, inspect.Microseconds, uint64(v.Run.Microseconds()), "time on a CPU, in the guest and in Keel for it")
	f.Each("exits", "kind", vpExits(v.Exits), "its exits by kind")
}

// vpExits is the node of a VP's exits, which tell of the guest.
type vpExits [hcl.ExitKinds]uint64

// Inspect writes the exits by kind.
func (e vpExits) Inspect(f *inspect.Fields) {
	for k, n := range e {
		if n > 0 {
			f.Uint(hcl.ExitKind(k).String(), inspect.Private, inspect.Count, n, "exits of this kind")
		}
	}
}
