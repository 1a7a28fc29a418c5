package front

import "testing"

// The rules of PTP's chapter on locality, one step after the other.
func TestArbiter(t *testing.T) {
	const none = -1
	var a Arbiter
	for i, c := range []struct {
		what     string
		locality uint8
		changes  bool  // of what Release and Seize return
		holder   int   // afterwards
		waits    uint8 // a bit a locality, afterwards
		seized   uint8
	}{
		{"release", 0, false, none, 0, 0},
		{"request", 0, false, 0, 0, 0},
		{"request", 0, false, 0, 0, 0},
		{"request", 1, false, 0, 0b0010, 0},
		{"request", 3, false, 0, 0b1010, 0},
		{"request", 2, false, 0, 0b1110, 0},
		{"release", 2, false, 0, 0b1010, 0}, // withdraws
		{"seize", 0, false, 0, 0b1010, 0},   // not higher
		{"release", 0, true, 3, 0b0010, 0},  // the highest that waits
		{"seize", 2, false, 3, 0b0010, 0},   // lower
		{"release", 3, true, 1, 0, 0},
		{"seize", 2, true, 2, 0, 0b0010},
		{"request", 3, false, 2, 0b1000, 0b0010},
		{"seize", 3, true, 3, 0, 0b0110}, // no longer waits
		{"forget", 1, false, 3, 0, 0b0100},
		{"release", 3, true, none, 0, 0b0100},
		{"seize", 1, true, 1, 0, 0b0100}, // a free one
	} {
		changed := false
		switch c.what {
		case "request":
			a.Request(c.locality)
		case "release":
			changed = a.Release(c.locality)
		case "seize":
			changed = a.Seize(c.locality)
		case "forget":
			a.ForgetSeizure(c.locality)
		}
		holder := none
		if l, ok := a.Holder(); ok {
			holder = int(l)
		}
		if changed != c.changes || holder != c.holder {
			t.Errorf("step %d, %s by %d: changed %v, holder %d", i, c.what, c.locality, changed, holder)
		}
		for l := range uint8(LocalityHardware) {
			if a.Waits(l) != (c.waits>>l&1 != 0) || a.WasSeized(l) != (c.seized>>l&1 != 0) ||
				a.OthersWait(l) != (c.waits&^(1<<l) != 0) || a.Holds(l) != (holder == int(l)) {
				t.Errorf("step %d, %s by %d: locality %d waits %v, others %v, seized %v, holds %v",
					i, c.what, c.locality, l, a.Waits(l), a.OthersWait(l), a.WasSeized(l), a.Holds(l))
			}
		}
	}
}
