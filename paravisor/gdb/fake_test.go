package gdb

import (
	"context"
	"errors"
	"slices"

	"keel/hcl"
	"keel/vtl"
)

// Where the fake guest has memory.
const (
	memoryAt   = 0xffffffff81000000
	memorySize = 0x3000
)

var errNoMemory = errors.New("no memory")

// fakeTarget is a guest of two VPs that does nothing by itself.
type fakeTarget struct {
	vps     [2]state
	memory  []byte
	breaks  []uint64
	actions []vtl.Action // of the last Go
	runs    bool
	stops   chan int
	broken  error
}

func newFake() *fakeTarget {
	t := &fakeTarget{memory: make([]byte, memorySize), stops: make(chan int, 1)}
	for i := range t.memory {
		t.memory[i] = byte(i)
	}
	for i := range t.vps {
		t.vps[i].general = hcl.Registers{RAX: 0x1122334455667788, RIP: memoryAt + uint64(i), RFLAGS: 0x246}
		t.vps[i].special.CS.Selector = 0x10
		t.vps[i].special.GS.Base = 0xffff888000000000 + uint64(i)
	}
	return t
}

func (t *fakeTarget) VPs() int { return len(t.vps) }

func (t *fakeTarget) Registers(_ context.Context, vp int) (hcl.Registers, hcl.SpecialRegisters, error) {
	return t.vps[vp].general, t.vps[vp].special, t.broken
}

func (t *fakeTarget) SetRegisters(_ context.Context, vp int, r *hcl.Registers, s *hcl.SpecialRegisters) error {
	t.vps[vp] = state{*r, *s}
	return t.broken
}

func (t *fakeTarget) Doing(context.Context, int) (string, error) { return "halted", t.broken }

func (t *fakeTarget) Read(_ context.Context, _ int, linear uint64, p []byte) (int, error) {
	if linear < memoryAt || linear >= memoryAt+memorySize {
		return 0, errNoMemory
	}
	return copy(p, t.memory[linear-memoryAt:]), nil
}

func (t *fakeTarget) Write(_ context.Context, _ int, linear uint64, p []byte) error {
	if linear < memoryAt || linear > memoryAt+memorySize-uint64(len(p)) {
		return errNoMemory
	}
	copy(t.memory[linear-memoryAt:], p)
	return nil
}

func (t *fakeTarget) SetBreak(_ context.Context, _ int, linear uint64) error {
	if linear < memoryAt || linear >= memoryAt+memorySize {
		return errNoMemory
	}
	if !slices.Contains(t.breaks, linear) {
		t.breaks = append(t.breaks, linear)
	}
	return nil
}

func (t *fakeTarget) ClearBreak(linear uint64) error {
	t.breaks = slices.DeleteFunc(t.breaks, func(at uint64) bool { return at == linear })
	return nil
}

func (t *fakeTarget) Go(_ context.Context, action func(int) vtl.Action) error {
	t.actions = nil
	for i := range t.vps {
		t.actions = append(t.actions, action(i))
	}
	t.runs = true
	return t.broken
}

func (t *fakeTarget) Halt(context.Context) error { t.runs = false; return t.broken }

func (t *fakeTarget) Stops() <-chan int { return t.stops }
