package emutee

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestConcurrent has VPs check and change the same two regions while the host
// splits and joins them. What no order of the operations allows must not be
// seen: page by page the permissions of VMPL3 are set to R or to RW, never to
// nothing, so a read of a validated page is always allowed.
func TestConcurrent(t *testing.T) {
	r, err := NewRMP(modelPages<<12, false)
	if err != nil {
		t.Fatal(err)
	}
	for region := range x86.GPA(2) {
		prepare(t, r, region*x86.LargePageSize, m2, true, 0, 0, snp.RMP_R)
	}
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	for seed := range uint64(2) {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for !done.Load() {
				gpa := x86.GPA(random.IntN(modelPages)) << 12
				if f := r.Check(gpa, 0, 3); !f.OK() {
					t.Errorf("read at %#x: %+v (%#x)", gpa, f, f.Code)
					return
				}
				r.Check(gpa, Write, 3)
			}
		})
	}
	for seed := range uint64(3) {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 3))
			for range 2000 {
				gpa := x86.GPA(random.IntN(modelPages)) << 12
				start := gpa &^ (x86.LargePageSize - 1)
				perms := uint8(snp.RMP_R | random.IntN(2)*snp.RMP_W)
				switch random.IntN(4) {
				case 0:
					r.PSmash(start)
				case 1:
					r.Unsmash(start)
				case 2:
					r.RMPAdjust(0, start, m2, 3, perms, false)
				case 3:
					r.RMPAdjust(0, gpa, k4, 3, perms, false)
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
}

// TestOneVP: of several threads that enter one VMSA, one runs it at a time, and
// nobody takes the page away meanwhile.
func TestOneVP(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true)
	r.RMPAdjust(0, page0, k4, 1, 0, true)
	var inside atomic.Int32
	var threads sync.WaitGroup
	for range 4 {
		threads.Go(func() {
			for range 1000 {
				if !r.EnterVMSA(page0) {
					continue
				}
				if inside.Add(1) != 1 {
					t.Error("two VPs run from one VMSA")
				}
				if code := r.RMPUpdate(page0, k4, OwnerHost); code != snp.RMP_FAIL_INUSE {
					t.Errorf("RMPUPDATE of a running VMSA: %d", code)
				}
				inside.Add(-1)
				r.LeaveVMSA(page0)
			}
		})
	}
	threads.Wait()
}
