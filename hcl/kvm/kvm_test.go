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

func TestContract(t *testing.T) { hcltest.Run(t, open) }

func BenchmarkExit(b *testing.B) {
	if _, err := Open(); err != nil {
		b.Skip(err)
	}
	hcltest.Benchmark(b, open)
}
