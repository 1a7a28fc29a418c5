package kvm

import (
	"testing"

	"keel/hcl"
	"keel/hcl/hcltest"
)

func TestMain(m *testing.M) { hcltest.Main(m) }

func open() (hcl.Partition, error) {
	p, err := Open()
	if err != nil {
		return nil, err
	}
	return p, nil
}

func TestContract(t *testing.T) {
	hcltest.Run(t, open)
	hcltest.RunDebugger(t, open)
}

func openRaw() (hcl.RawFaults, error) {
	p, err := OpenRaw()
	if err != nil {
		return nil, err
	}
	return p, nil
}

// TestRawContract: a partition with raw faults keeps the whole contract, and its own.
func TestRawContract(t *testing.T) {
	hcltest.Run(t, func() (hcl.Partition, error) { return openRaw() })
	hcltest.RunRaw(t, openRaw)
}

func BenchmarkExit(b *testing.B) {
	if _, err := Open(); err != nil {
		b.Skip(err)
	}
	hcltest.Benchmark(b, open)
}
