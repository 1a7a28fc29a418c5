package vsock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostileRings breaks the rules of virtqueues (virtio 1.2 §2.7). The device
// stops, goes on answering QEMU, and works again after a reset.
func TestHostileRings(t *testing.T) {
	const free = 9 << 20 // an unused part of the memory
	for _, c := range []struct {
		name  string
		queue int
		want  error
		ruin  func(f *frontend, r *driverRing)
	}{
		{"index runs ahead", queueTx, errAvailable, func(f *frontend, r *driverRing) { le.PutUint16(f.memory[r.avail+2:], r.index+queueSize+1) }},
		{"index goes back", queueTx, errAvailable, func(f *frontend, r *driverRing) { le.PutUint16(f.memory[r.avail+2:], r.index-1) }},
		{"no such head", queueTx, errDescriptor, func(f *frontend, r *driverRing) { f.offer(r, queueSize) }},
		{"no such next", queueTx, errDescriptor, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 64, flagNext, 0xffff)
			f.offer(r, 0)
		}},
		{"loop", queueTx, errLoop, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 64, flagNext, 1)
			f.describe(r, 1, free, 64, flagNext, 0)
			f.offer(r, 0)
		}},
		{"loop of nothing", queueTx, errLoop, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 0, flagNext, 0)
			f.offer(r, 0)
		}},
		{"below memory", queueTx, errAddress, func(f *frontend, r *driverRing) {
			f.raw(r, 0, guestBase-1, 64, 0, 0)
			f.offer(r, 0)
		}},
		{"over the end of a region", queueTx, errAddress, func(f *frontend, r *driverRing) {
			f.raw(r, 0, guestBase+memoryBack-63, 64, 0, 0)
			f.offer(r, 0)
		}},
		{"at the end of addresses", queueTx, errAddress, func(f *frontend, r *driverRing) {
			f.raw(r, 0, ^uint64(0), 0xffffffff, 0, 0)
			f.offer(r, 0)
		}},
		{"all of the address space", queueTx, errAddress, func(f *frontend, r *driverRing) {
			f.raw(r, 0, guestBase, 0xffffffff, 0, 0)
			f.offer(r, 0)
		}},
		{"writable to transmit", queueTx, errDirection, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 64, flagWrite, 0)
			f.offer(r, 0)
		}},
		{"too short for a header", queueTx, errTiny, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, packetHeader-1, 0, 0)
			f.offer(r, 0)
		}},
		{"empty", queueTx, errTiny, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 0, 0, 0)
			f.offer(r, 0)
		}},
		{"indirect of odd size", queueTx, errIndirect, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 17, flagIndirect, 0)
			f.offer(r, 0)
		}},
		{"indirect of no size", queueTx, errIndirect, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 0, flagIndirect, 0)
			f.offer(r, 0)
		}},
		{"huge indirect", queueTx, errIndirect, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, (maxSegments+1)*descBytes, flagIndirect, 0)
			f.offer(r, 0)
		}},
		{"indirect outside of memory", queueTx, errAddress, func(f *frontend, r *driverRing) {
			f.raw(r, 0, guestBase+memoryBack-8, 16, flagIndirect, 0)
			f.offer(r, 0)
		}},
		{"indirect in indirect", queueTx, errIndirect, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 16, flagIndirect, 0)
			le.PutUint64(f.memory[free:], gpa(free))
			le.PutUint32(f.memory[free+8:], 16)
			le.PutUint16(f.memory[free+12:], flagIndirect)
			f.offer(r, 0)
		}},
		{"loop in indirect", queueTx, errLoop, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 16, flagIndirect, 0)
			le.PutUint64(f.memory[free:], gpa(free))
			le.PutUint32(f.memory[free+8:], 16)
			le.PutUint32(f.memory[free+12:], flagNext)
			f.offer(r, 0)
		}},
		{"readable to receive", queueRx, errDirection, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, 4096, 0, 0)
			le.PutUint16(f.memory[r.avail+4:], 0)
			f.dial("CONNECT 1\n")
		}},
		{"no room to receive", queueRx, errTiny, func(f *frontend, r *driverRing) {
			f.describe(r, 0, free, packetHeader, flagWrite, 0)
			le.PutUint16(f.memory[r.avail+4:], 0)
			f.dial("CONNECT 1\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log lockedText
			f := boot(t, Options{Log: textLog(&log)})
			c.ruin(f, &f.rings[c.queue])
			notify(f.rings[c.queue].kick)
			f.until("the device runs", func(s Stats) bool { return s.Broken == 1 && s.Open == 0 })
			// The error event is raised, QEMU gets its answers, and a reset heals.
			if err := readable(f.rings[c.queue].err, time.Second); err != nil {
				t.Errorf("no error event: %v", err)
			}
			f.closed(f.dial("CONNECT 5\n"))
			f.stopRings()
			if said := log.String(); !strings.Contains(said, ErrRing.Error()) || !strings.Contains(said, c.want.Error()) {
				t.Errorf("%q, %v expected", said, c.want)
			}
			f.startRings(0, 0)
			f.link(5, 1)
			f.stopRings()
		})
	}
}

// TestHostileAddresses places rings where no guest memory is.
func TestHostileAddresses(t *testing.T) {
	f := newFrontend(t, Options{})
	f.serve()
	f.setUp()
	for i, change := range []func([]byte){
		func(b []byte) { le.PutUint64(b[8:], userBase+memoryBack-descBytes*queueSize+16) },
		func(b []byte) { le.PutUint64(b[8:], 0) },
		func(b []byte) { le.PutUint64(b[16:], ^uint64(0)) },
		func(b []byte) { le.PutUint64(b[16:], le.Uint64(b[16:])+2) },
		func(b []byte) { le.PutUint64(b[24:], userBase-2) },
		func(b []byte) { le.PutUint64(b[24:], le.Uint64(b[24:])+1) },
	} {
		f.stopRings()
		f.startRings(0, 0)
		f.link(5, 1)
		addr := f.addr(queueTx)
		change(addr)
		f.acked(reqSetVringAddr, addr)
		f.until("the device runs", func(s Stats) bool { return s.Broken == uint64(i+1) })
	}
	// Memory that leaves under running rings.
	f.stopRings()
	f.startRings(0, 0)
	f.acked(reqSetMemTable, make([]byte, 8))
	f.until("the device runs", func(s Stats) bool { return s.Broken == 7 })
}

// TestHostileMessages sends what QEMU does not. Serve ends with an error, and
// leaves nothing.
func TestHostileMessages(t *testing.T) {
	one := func(gpa, size, user, offset uint64) []byte {
		return le.AppendUint64(le.AppendUint64(le.AppendUint64(le.AppendUint64([]byte{1, 0, 0, 0, 0, 0, 0, 0}, gpa), size), user), offset)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	file.Truncate(1 << 20)
	defer file.Close()
	for _, c := range []struct {
		name string
		send func(f *frontend)
	}{
		{"unknown request", func(f *frontend) { f.say(99, 0, nil) }},
		{"request that was not negotiated", func(f *frontend) { f.say(34, 0, nil) }},
		{"reply flag", func(f *frontend) { f.say(reqSetOwner, messageReply, nil) }},
		{"version", func(f *frontend) { f.say(reqSetOwner, 2, nil) }},
		{"huge", func(f *frontend) { unix.Write(f.fd, []byte{1, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255}) }},
		{"payload missing", func(f *frontend) { f.say(reqSetFeatures, 0, nil) }},
		{"payload too long", func(f *frontend) { f.say(reqSetVringNum, 0, make([]byte, 9)) }},
		{"payload for none", func(f *frontend) { f.say(reqGetFeatures, 0, make([]byte, 8)) }},
		{"packed rings", func(f *frontend) { f.say(reqSetFeatures, 0, word(1<<34)) }},
		{"iommu", func(f *frontend) { f.say(reqSetFeatures, 0, word(1<<33)) }},
		{"protocol feature", func(f *frontend) { f.say(reqSetProtocolFeatures, 0, word(1)) }},
		{"queue number", func(f *frontend) { f.say(reqSetVringNum, 0, vringState(queues, 8)) }},
		{"queue of no entries", func(f *frontend) { f.say(reqSetVringNum, 0, vringState(0, 0)) }},
		{"queue of 3 entries", func(f *frontend) { f.say(reqSetVringNum, 0, vringState(0, 3)) }},
		{"huge queue", func(f *frontend) { f.say(reqSetVringNum, 0, vringState(0, 2048)) }},
		{"kick of no queue", func(f *frontend) { f.say(reqSetVringKick, 0, word(queues|vringNoFD)) }},
		{"kick without descriptor", func(f *frontend) { f.say(reqSetVringKick, 0, word(0)) }},
		{"polled queue", func(f *frontend) { f.say(reqSetVringKick, 0, word(vringNoFD)) }},
		{"file as event", func(f *frontend) { f.say(reqSetVringCall, 0, word(0), int(file.Fd())) }},
		{"two events", func(f *frontend) { f.say(reqSetVringCall, 0, word(0), f.rings[0].call, f.rings[0].call) }},
		{"configuration header", func(f *frontend) { f.say(reqGetConfig, 0, make([]byte, 11)) }},
		{"configuration size", func(f *frontend) { f.say(reqGetConfig, 0, make([]byte, 13)) }},
		{"size of a running queue", func(f *frontend) { f.say(reqSetVringNum, 0, vringState(0, 8)) }},
		{"base of a running queue", func(f *frontend) { f.say(reqSetVringBase, 0, vringState(0, 8)) }},
		{"features of running queues", func(f *frontend) { f.say(reqSetFeatures, 0, word(featuresOffered)) }},
		{"no table", func(f *frontend) { f.say(reqSetMemTable, 0, nil) }},
		{"table without descriptors", func(f *frontend) { f.say(reqSetMemTable, 0, table()) }},
		{"table with too few", func(f *frontend) { f.say(reqSetMemTable, 0, table(), f.memfd) }},
		{"too many descriptors", func(f *frontend) {
			f.say(reqSetMemTable, 0, table(), f.memfd, f.memfd, f.memfd, f.memfd, f.memfd, f.memfd, f.memfd, f.memfd, f.memfd)
		}},
		{"too many regions", func(f *frontend) { f.say(reqSetMemTable, 0, []byte{9, 0, 0, 0, 0, 0, 0, 0}) }},
		{"region of no size", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 0, 0, 0), f.memfd) }},
		{"region beyond the file", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, memoryFile+4096, 0, 0), f.memfd) }},
		{"offset beyond the file", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 4096, 0, memoryFile), f.memfd) }},
		{"offset that wraps", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 8192, 0, ^uint64(4095)), f.memfd) }},
		{"odd offset", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 4096, 0, 1), f.memfd) }},
		{"address that wraps", func(f *frontend) { f.say(reqSetMemTable, 0, one(^uint64(0), 4096, 0, 0), f.memfd) }},
		{"user address that wraps", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 4096, ^uint64(0), 0), f.memfd) }},
		{"huge region", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 1<<63, 0, 0), f.memfd) }},
		{"unsealed memory", func(f *frontend) { f.say(reqSetMemTable, 0, one(0, 4096, 0, 0), int(file.Fd())) }},
		{"regions that overlap", func(f *frontend) {
			b := table()
			le.PutUint64(b[tableHeader+regionBytes:], guestBase+memoryBack-1)
			f.say(reqSetMemTable, 0, b, f.memfd, f.memfd)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := descriptors(t)
			f := boot(t, Options{})
			c.send(f)
			select {
			case err := <-f.served:
				if !errors.Is(err, ErrProtocol) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Serve: %v", err)
				}
			case <-time.After(patience):
				t.Error("Serve does not end")
			}
			f.end()
			if after := descriptors(t); len(after) > len(before) {
				t.Errorf("descriptors before: %q, after: %q", before, after)
			}
			if n := countMaps(t, "/memfd:guest"); n != 0 {
				t.Errorf("%d mappings of guest memory stay", n)
			}
		})
	}
}

// TestRefusalIsAnswered wants a front end that asks for acknowledgement to get it.
func TestRefusalIsAnswered(t *testing.T) {
	f := boot(t, Options{})
	if got := f.ask(reqSetVringNum, messageNeedReply, vringState(0, 8)); le.Uint64(got) == 0 {
		t.Error("acknowledged")
	}
	if err := <-f.served; !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}

// TestSlowMessages sends messages byte by byte.
func TestSlowMessages(t *testing.T) {
	f := newFrontend(t, Options{})
	f.serve()
	b := append([]byte{byte(reqSetFeatures), 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0}, word(featuresOffered)...)
	for range 3 {
		for i := range b {
			unix.Write(f.fd, b[i:i+1])
		}
	}
	f.setUp()
	f.until("messages", func(s Stats) bool { return s.Messages > 3 })
}

// TestDeafFrontEnd asks for answers without end and takes none.
func TestDeafFrontEnd(t *testing.T) {
	f := boot(t, Options{})
	b := []byte{byte(reqGetFeatures), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}
	for {
		if _, err := unix.Write(f.fd, b); err != nil {
			break
		}
	}
	if err := <-f.served; !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}

// TestVanishingMemory takes memory away that is in use: only the device ends.
func TestVanishingMemory(t *testing.T) {
	g := newFrontend(t, Options{})
	g.manual = true
	g.setUp()
	fd, err := unix.MemfdCreate("vanishing", unix.MFD_CLOEXEC)
	g.check(err)
	defer unix.Close(fd)
	g.check(unix.Ftruncate(fd, 1<<20))
	view, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	g.check(err)
	defer unix.Munmap(view)
	r := &g.device.rings[queueTx]
	r.availRing, r.usedRing, r.table = view[:4096], view[4096:8192], view[8192:16384]
	g.check(unix.Ftruncate(fd, 0)) // what a seal forbids, and mapRegion demands
	notify(r.kick)
	if err := g.device.loop(); !errors.Is(err, ErrMemory) {
		t.Errorf("%v", err)
	}
	r.blind()
}

// TestManyOrphans floods the device with packets to nobody, and takes no answer.
func TestManyOrphans(t *testing.T) {
	f := boot(t, Options{})
	for i := range uint32(1000) {
		f.send(packet(opRW, i, 1), nil)
	}
	f.until("dropped", func(s Stats) bool {
		return s.DroppedResets == 1000-queueSize-uint64(len(orphans{}.list))
	})
	for range queueSize + len(orphans{}.list) {
		f.expect(opReset)
	}
	f.silence()
	f.link(5, 1)
}

// TestWarningsAreBounded lets a guest break its device again and again.
func TestWarningsAreBounded(t *testing.T) {
	var log strings.Builder
	f := newFrontend(t, Options{Log: textLog(&log)})
	f.manual = true
	f.setUp()
	for range 3 * maxWarnings {
		f.offer(&f.rings[queueTx], queueSize)
		f.step()
		f.stopRings()
		f.startRings(0, 0)
	}
	if n := strings.Count(log.String(), "\n"); n != maxWarnings {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	if s := f.device.Stats(); s.Broken != 3*maxWarnings {
		t.Error(fmt.Sprint(s))
	}
}
