package tdxmodule

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// TestConcurrent has VPs check and change one region while the host splits and joins it.
// What no order of the operations allows must not be seen: the attributes of VM 1 are R or
// R and W, never nothing, so that a read either succeeds or meets a block.
func TestConcurrent(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(large1, 1), 1, tdx.GPA_ATTR_R)
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	for seed := range uint64(2) {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for !done.Load() {
				gpa := large1 + x86.GPA(random.IntN(512))<<12
				if f := td.Check(gpa, 0, 1); f.Kind != FaultNone && f.Kind != FaultHost {
					t.Errorf("read at %#x: %+v", gpa, f)
					return
				}
				td.Check(gpa, Write, 1)
				r := td.ReadAttributes(uint64(gpa))
				if r.OK() && r.RDX&^(2<<16) != 0x8001<<16 || r.OK() && r.RCX&7 > 1 {
					t.Errorf("attributes of %#x: %+v", gpa, r)
					return
				}
				if _, end := td.Reach(gpa, 1); end <= gpa || end > large1+m2 {
					t.Errorf("%#x reaches up to %#x", gpa, end)
					return
				}
			}
		})
	}
	for seed := range uint64(3) {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 3))
			for range 3000 {
				page := operand(large1+x86.GPA(random.IntN(512))<<12, 0)
				region := operand(large1, 1)
				attributes := uint64(0x8001|random.IntN(2)<<1) << 16
				switch random.IntN(6) {
				case 0:
					td.RangeBlock(region)
				case 1:
					td.RangeUnblock(region)
				case 2:
					td.PageDemote(region)
				case 3:
					td.PagePromote(region)
				case 4:
					td.WriteAttributes(region, attributes, 0xf<<16)
				case 5:
					td.WriteAttributes(page, attributes, 0xf<<16)
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
}

// TestOneAccepts: of several VPs that accept a page, one succeeds, and the page is
// cleared once, before anybody can use it.
func TestOneAccepts(t *testing.T) {
	td := filled(t, nil)
	for range 200 {
		must(t, "AUG", td.PageAug(operand(free2, 1)))
		var accepted atomic.Int32
		m := &clearing{td: td, t: t}
		var threads sync.WaitGroup
		for range 4 {
			threads.Go(func() {
				if r, err := td.Accept(operand(free2, 1), m); err != nil {
					t.Error(err)
				} else if r.OK() {
					accepted.Add(1)
				} else if r.Status != tdx.STATUS_PAGE_ALREADY_ACCEPTED|1 {
					t.Errorf("%#x", r.Status)
				}
			})
		}
		threads.Wait()
		if accepted.Load() != 1 || m.cleared.Load() != 1 {
			t.Fatalf("accepted %d times, cleared %d times", accepted.Load(), m.cleared.Load())
		}
		must(t, "Take", td.Take(free2, m2))
	}
}

type clearing struct {
	guestMemory
	td      *TD
	t       *testing.T
	cleared atomic.Int32
}

func (c *clearing) Clear(gpa x86.GPA, length uint64) error {
	if c.td.Check(gpa, 0, 0).OK() || length != m2 {
		c.t.Errorf("%#x of %#x bytes is in use while it is cleared", gpa, length)
	}
	c.cleared.Add(1)
	return nil
}

// TestExtendConcurrently: extensions of one register follow each other.
func TestExtendConcurrently(t *testing.T) {
	td := filled(t, nil)
	var threads sync.WaitGroup
	for range 4 {
		threads.Go(func() {
			var d Digest
			for range 100 {
				td.Extend(0, 2, &d)
				td.Write(0, tdx.TD_NOTIFY_ENABLES, 1, 1)
				td.Read(0, tdx.TD_RTMR+12)
			}
		})
	}
	threads.Wait()
	want := newTD(t, nil)
	must(t, "Give", want.Give(0, m2))
	accept(t, want, 1)
	for range 400 {
		want.Extend(0, 2, new(Digest))
	}
	if td.Measurements() != want.Measurements() {
		t.Error("an extension was lost")
	}
}
