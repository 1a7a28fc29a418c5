package storvsp_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
	"keel/translate/storvsp"
	"keel/translate/vmbus/vmbustest"
)

// slow is a disk that completes requests elsewhere, in any order.
type slow struct {
	*ram
	queue chan *blk.Request
	wg    sync.WaitGroup
}

func newSlow(r *ram) *slow {
	s := &slow{ram: r, queue: make(chan *blk.Request, 4096)}
	for range 3 {
		s.wg.Go(func() {
			for q := range s.queue {
				s.ram.Submit(0, q)
			}
		})
	}
	return s
}

func (s *slow) Submit(_ int, q *blk.Request) { s.queue <- q }

func (s *slow) close() {
	close(s.queue)
	s.wg.Wait()
}

// worker writes and reads its own part of the disk over one channel, several
// commands at a time.
func (m *machine) worker(p *vmbustest.Port, pages []x86.GPA, lba uint32, rounds int) error {
	for round := range rounds {
		for _, write := range []bool{true, false} {
			for i, at := range pages {
				fill := bytes.Repeat([]byte{byte(round + 31*i)}, page)
				cdb, in := write10(lba+uint32(8*i), 8), byte(0)
				if !write {
					fill, cdb, in = make([]byte, page), read10(lba+uint32(8*i), 8), 1
				}
				if err := m.Mem.WriteAt(at, fill); err != nil {
					return err
				}
				if !submit(p, srb{lun: 1, cdb: cdb, in: in, length: page, data: vmbustest.Direct(0, page, at), id: uint64(i)}) {
					return fmt.Errorf("round %d: the ring is full", round)
				}
			}
			for range pages {
				_, id, a := p.Recv()
				if a[14] != 1 {
					return fmt.Errorf("round %d, command %d: % x", round, id, a)
				}
				got := make([]byte, page)
				if err := m.Mem.ReadAt(pages[id], got); err != nil {
					return err
				}
				if !write && (got[0] != byte(round+31*int(id)) || got[page-1] != got[0]) {
					return fmt.Errorf("round %d, command %d: read %#x", round, id, got[0])
				}
			}
		}
	}
	return nil
}

// TestManyChannels runs all channels at once, with signals and with polling.
func TestManyChannels(t *testing.T) {
	for _, poll := range []int{0, 1, 4} {
		m := boot(t, storvsp.Config{PollDepth: poll, Depth: 16})
		disk := newSlow(newRAM(8192))
		if err := m.target.Add(1, 0, disk); err != nil {
			t.Fatal(err)
		}
		m.main.Recv() // ENUMERATE BUS
		for range 3 {
			m.run(m.main, srb{lun: 1, cdb: make([]byte, 6), in: 2})
		}
		m.op(m.main, 13, 64, func(p []byte) { le.PutUint16(p[12:], vmbustest.VPs-1) })
		ports := []*vmbustest.Port{m.main}
		var offers [][]byte
		for range vmbustest.VPs - 1 {
			offers = append(offers, m.Want(1, 196))
		}
		for i, o := range offers {
			sub, status := m.OpenWith(o, uint32(i+1), 15)
			if status != 0 {
				t.Fatalf("opening sub-channel %d: %#x", i, status)
			}
			ports = append(ports, sub)
		}
		var wg sync.WaitGroup
		for i, p := range ports {
			pages := m.Pages(24)
			wg.Go(func() {
				if err := m.worker(p, pages, uint32(i)*1024, 40); err != nil {
					t.Errorf("polling from %d on, channel %d: %v", poll, i, err)
				}
			})
		}
		wg.Wait()
		signals := 0
		for _, p := range ports {
			signals += p.Signals
		}
		t.Logf("polling from %d on: %d commands, %d signals", poll, m.vsp.Stats().Requests, signals)
		m.Bus.Reset()
		disk.close()
	}
}

// TestResetUnderLoad resets the guest while all is at work.
func TestResetUnderLoad(t *testing.T) {
	for i := range 20 {
		m := boot(t, storvsp.Config{PollDepth: i % 2})
		disk := newSlow(newRAM(8192))
		if err := m.target.Add(1, 0, disk); err != nil {
			t.Fatal(err)
		}
		p := m.Pages(1)
		for j := range 30 {
			submit(m.main, srb{lun: 1, cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0]), id: uint64(j)})
		}
		m.Bus.Reset()
		m.SynIC.Forget()
		m.Connect(5<<16 | 2)
		offers := m.Offers()
		if len(offers) != 1 {
			t.Fatalf("%d offers after a reset", len(offers))
		}
		m.main, _ = m.OpenWith(offers[0], 0, 31)
		m.negotiate()
		m.ready()
		m.Bus.Reset()
		disk.close()
	}
}
