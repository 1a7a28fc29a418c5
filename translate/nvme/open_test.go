package nvme_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"keel/hcl/pci"
	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

func TestOpenRefuses(t *testing.T) {
	const sound = 255 | 1<<16 | 1<<24 | 1<<37
	for _, x := range []struct {
		name   string
		change func(*nvmetest.Config)
		faults func(*nvmetest.Faults)
		want   error
	}{
		{"another class", func(c *nvmetest.Config) { c.Class = 0x010601 }, nil, nvme.ErrNotNVMe},
		{"few registers", func(c *nvmetest.Config) { c.Size = 64 }, nil, nvme.ErrController},
		{"no room for doorbells", func(c *nvmetest.Config) { c.Size = 0x1000 }, nil, nvme.ErrController},
		{"no room for I/O doorbells", func(c *nvmetest.Config) { c.Size = 0x1008 }, nil, pci.ErrLimit},
		{"all ones", func(c *nvmetest.Config) { c.CAP = ^uint64(0) }, nil, nvme.ErrController},
		{"version 0", func(c *nvmetest.Config) { c.VS = 0x300 }, nil, nvme.ErrController},
		{"queues of one entry", func(c *nvmetest.Config) { c.CAP = sound &^ 255 }, nil, nvme.ErrController},
		{"no NVM command set", func(c *nvmetest.Config) { c.CAP = sound &^ (1 << 37) }, nil, nvme.ErrController},
		{"pages of 8 KiB", func(c *nvmetest.Config) { c.CAP = sound | 1<<48 }, nil, nvme.ErrController},
		{"huge stride", func(c *nvmetest.Config) { c.CAP = sound | 15<<32 }, nil, nvme.ErrController},
		{"no interrupts", func(c *nvmetest.Config) { c.Vectors = -1 }, nil, pci.ErrLimit},
		{"never ready", nil, func(f *nvmetest.Faults) { f.NeverReady = true }, nvme.ErrController},
		{"no answer", nil, func(f *nvmetest.Faults) {
			f.Hook = func(nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: true} }
		}, nvme.ErrController},
		{"admin commands fail", nil, func(f *nvmetest.Faults) {
			f.Hook = func(nvmetest.Command) nvmetest.Action { return nvmetest.Action{Status: 0x006} }
		}, nvme.ErrController},
		{"entry sizes", nil, onIdentify(1, func(b []byte) { b[512] = 0x77 }), nvme.ErrController},
	} {
		t.Run(x.name, func(t *testing.T) {
			noLeak(t)
			fake := one()
			if x.change != nil {
				x.change(&fake)
			}
			f := nvmetest.New(t, fake)
			if x.faults != nil {
				f.Set(x.faults)
			}
			config := quick
			config.AdminTimeout, config.ReadyTimeout = 50*time.Millisecond, 100*time.Millisecond
			c, err := nvme.Open(f, config)
			if !errors.Is(err, x.want) || c != nil {
				t.Errorf("error %v, want %v", err, x.want)
			}
			if !f.Closed() {
				t.Error("the function was not closed")
			}
		})
	}
}

// onIdentify changes the data of Identify with a CNS.
func onIdentify(cns uint32, change func([]byte)) func(*nvmetest.Faults) {
	return func(f *nvmetest.Faults) {
		f.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			if cmd.Queue == 0 && cmd.Opcode == 0x06 && cmd.DW10&0xff == cns {
				return nvmetest.Action{Data: change}
			}
			return nvmetest.Action{}
		}
	}
}

func TestQueuesAreBounded(t *testing.T) {
	for _, x := range []struct {
		wanted, vectors, offered, size, want int
	}{
		{4, 8, 16, 0, 4},
		{4, 3, 16, 0, 2},
		{4, 8, 1, 0, 1},
		{4, 1, 16, 0, 1}, // one vector for everything
		{4, 8, 16, 0x1000 + 3*8, 2},
		{0, 8, 16, 0, 1},
	} {
		fake := one()
		fake.Vectors, fake.Queues, fake.Size = x.vectors, x.offered, x.size
		f, c := open(t, fake, nvme.Config{Queues: x.wanted})
		if c.Queues() != x.want {
			t.Errorf("%+v: %d queues", x, c.Queues())
		}
		g := newGuest(f, 4096)
		for i := range 5 {
			if err := wait(t, start(first(t, c), i, rw(blk.OpRead, 0, 512, g.at(0, 4096)))); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestInfo(t *testing.T) {
	base := blk.Info{
		Blocks: 8192, BlockSize: 512, PhysicalSize: 512, MaxBlocks: 32768, Volatile: true,
		Discard: true, DiscardUnit: 1, MaxRanges: 256, DiscardZeroes: true, WriteZeroes: true, Compare: true,
		Serial: "KEEL0001",
	}
	for _, x := range []struct {
		name   string
		fake   func(*nvmetest.Config)
		faults func(*nvmetest.Faults)
		want   func(*blk.Info)
	}{
		{"plain", nil, nil, func(*blk.Info) {}},
		{"read-only", func(c *nvmetest.Config) { c.Namespaces[0].ReadOnly = true }, nil, func(i *blk.Info) { i.ReadOnly = true }},
		{"no cache", func(c *nvmetest.Config) { c.NoCache = true }, nil, func(i *blk.Info) { i.Volatile = false }},
		{"cache off", nil, func(f *nvmetest.Faults) {
			f.Hook = func(cmd nvmetest.Command) nvmetest.Action {
				if cmd.Queue == 0 && cmd.Opcode == 0x0a {
					return nvmetest.Action{Result: new(uint32)}
				}
				return nvmetest.Action{}
			}
		}, func(i *blk.Info) { i.Volatile = false }},
		{"few commands", func(c *nvmetest.Config) { c.ONCS = 1 << 6 }, nil, func(i *blk.Info) {
			i.Discard, i.WriteZeroes, i.Compare = false, false, false
		}},
		{"contents after deallocation unknown", func(c *nvmetest.Config) { c.Namespaces[0].DLFEAT = 8 }, nil, func(i *blk.Info) {
			i.DiscardZeroes = false
		}},
		{"granularities", nil, onIdentify(0, func(b []byte) {
			b[24] = 1<<1 | 1<<4
			binary.LittleEndian.PutUint16(b[36:], 31) // NAWUPF
			binary.LittleEndian.PutUint16(b[64:], 7)  // NPWG
			binary.LittleEndian.PutUint16(b[68:], 15) // NPDG
			binary.LittleEndian.PutUint16(b[72:], 63) // NOWS
		}), func(i *blk.Info) { i.PhysicalSize, i.DiscardUnit, i.Optimal = 4096, 16, 64 }},
		{"less is atomic", nil, onIdentify(0, func(b []byte) {
			b[24] = 1<<1 | 1<<4
			binary.LittleEndian.PutUint16(b[36:], 2)
			binary.LittleEndian.PutUint16(b[64:], 7)
		}), func(i *blk.Info) { i.PhysicalSize = 1024 }},
		{"absurd granularities", nil, onIdentify(0, func(b []byte) {
			b[24] = 0xff
			for i := 34; i < 74; i++ {
				b[i] = 0xff
			}
		}), func(i *blk.Info) { i.PhysicalSize, i.DiscardUnit, i.Optimal = 65536, 65536, 32768 }},
		{"boundary", nil, onIdentify(0, func(b []byte) { binary.LittleEndian.PutUint16(b[46:], 256) }), func(i *blk.Info) { i.Optimal = 256 }},
		{"serial", func(c *nvmetest.Config) { c.Serial = " a\x00b\xffc\x1b[ " }, nil, func(i *blk.Info) { i.Serial = "a_b_c_[" }},
		{"NGUID", func(c *nvmetest.Config) {
			c.Namespaces[0].NGUID = [16]byte{15: 1}
			c.Namespaces[0].EUI64 = [8]byte{1}
		}, nil, func(i *blk.Info) { i.ID = [16]byte{15: 1} }},
		{"EUI64", func(c *nvmetest.Config) { c.Namespaces[0].EUI64 = [8]byte{2} }, nil, func(i *blk.Info) { i.ID = [16]byte{2} }},
	} {
		t.Run(x.name, func(t *testing.T) {
			fake := one()
			if x.fake != nil {
				x.fake(&fake)
			}
			f := nvmetest.New(t, fake)
			if x.faults != nil {
				f.Set(x.faults)
			}
			c, err := nvme.Open(f, nvme.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want, got := base, first(t, c).Info()
			x.want(&want)
			if want.ID == [16]byte{} {
				if got.ID == want.ID {
					t.Error("no identifier")
				}
				want.ID = got.ID
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestIdentifiersDiffer(t *testing.T) {
	seen := make(map[[16]byte]string)
	for _, x := range []struct{ serial, model string }{{"A", "B"}, {"AB", ""}, {"A", "C"}} {
		for range 2 { // the same every time
			_, c := open(t, nvmetest.Config{
				Serial: x.serial, Model: x.model,
				Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: 8}, {ID: 2, Blocks: 8}},
			}, nvme.Config{})
			for _, n := range c.Namespaces() {
				name := fmt.Sprint(x, n.NSID())
				if other, ok := seen[n.Info().ID]; ok && other != name {
					t.Errorf("%s and %s have one identifier", name, other)
				}
				seen[n.Info().ID] = name
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d identifiers, want 6", len(seen))
	}
}

func TestNamespacesThatAreRefused(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func([]byte)
	}{
		{"no such format", func(b []byte) { b[26] = 5 }},
		{"metadata", func(b []byte) { b[128] = 8 }},
		{"blocks of one byte", func(b []byte) { b[130] = 0 }},
		{"blocks of 2^255 bytes", func(b []byte) { b[130] = 255 }},
		{"blocks of 1 KiB", func(b []byte) { b[130] = 10 }},
		{"giant", func(b []byte) { binary.LittleEndian.PutUint64(b, 1<<63) }},
		{"all ones", func(b []byte) {
			for i := range b {
				b[i] = 0xff
			}
		}},
	} {
		f := nvmetest.New(t, one())
		f.Set(onIdentify(0, x.change))
		c, err := nvme.Open(f, quick)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		if n := c.Namespaces(); len(n) != 0 || c.Stats().Refused != 1 {
			t.Errorf("%s: %d namespaces, %d refused", x.name, len(n), c.Stats().Refused)
		}
		c.Close()
	}
}

func TestManyNamespaces(t *testing.T) {
	var list []nvmetest.Namespace
	for i := range 20 {
		list = append(list, nvmetest.Namespace{ID: uint32(3*i + 1), Blocks: uint64(8 + i)})
	}
	for _, old := range []bool{false, true} {
		_, c := open(t, nvmetest.Config{Namespaces: list, OldLists: old, NN: 100}, nvme.Config{MaxNamespaces: 50})
		want := 20
		if old {
			want = 17 // those up to number 50
		}
		got := c.Namespaces()
		if len(got) != want {
			t.Fatalf("%d namespaces, want %d", len(got), want)
		}
		for i, n := range got {
			if n.NSID() != list[i].ID || n.Info().Blocks != list[i].Blocks {
				t.Errorf("namespace %d has %d blocks", n.NSID(), n.Info().Blocks)
			}
		}
	}
}

// TestAbsurdLists has namespace lists that are no lists, and counts that are none.
func TestAbsurdLists(t *testing.T) {
	for _, x := range []struct {
		name   string
		fill   func(i int) uint32
		lookup int // Identify commands at most
	}{
		{"falling", func(i int) uint32 { return uint32(5000 - i) }, 20},
		{"the same", func(int) uint32 { return 1 }, 20},
		{"endless", func(i int) uint32 { return uint32(i + 1) }, 300},
		{"broadcast", func(int) uint32 { return 0xffffffff }, 20},
	} {
		f := nvmetest.New(t, one())
		looked := 0
		f.Set(func(to *nvmetest.Faults) {
			to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
				if cmd.Queue != 0 || cmd.Opcode != 0x06 {
					return nvmetest.Action{}
				}
				looked++
				return nvmetest.Action{Data: func(b []byte) {
					for i := 0; cmd.DW10&0xff == 2 && i < len(b)/4; i++ {
						binary.LittleEndian.PutUint32(b[4*i:], x.fill(i))
					}
				}}
			}
		})
		c, err := nvme.Open(f, nvme.Config{MaxNamespaces: 200})
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		if looked > x.lookup {
			t.Errorf("%s: %d Identify commands", x.name, looked)
		}
		c.Close()
	}
	fake := one()
	fake.NN, fake.OldLists = 0xffffffff, true
	_, c := open(t, fake, nvme.Config{})
	if n := len(c.Namespaces()); n != 1 {
		t.Errorf("%d namespaces", n)
	}
}
