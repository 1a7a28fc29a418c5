package paravisor

import (
	"errors"
	"testing"
)

const zoneinfo = `Node 0, zone    DMA32
  per-node stats
      nr_free_pages 1
  pages free     12840
        boost    0
        high     8448
  pagesets
    cpu: 0
              count:    399
              high:     3520
    cpu: 1
              count:    3564
Node 0, zone   Normal
  pages free     7
`

func TestFreePages(t *testing.T) {
	if got, want := freePages(zoneinfo), uint64(12840+399+3564+7); got != want {
		t.Errorf("%d free pages, want %d", got, want)
	}
}

func TestMeminfo(t *testing.T) {
	const text = "MemTotal:         610744 kB\nMemAvailable:      15140 kB\nHugePages_Total:     256\nOdd: x kB\n"
	if got, err := parseMeminfo(text, "MemAvailable"); err != nil || got != 15140<<10 {
		t.Errorf("MemAvailable %d, %v", got, err)
	}
	for _, key := range []string{"MemFree", "Odd"} {
		if _, err := parseMeminfo(text, key); !errors.Is(err, errMeminfo) {
			t.Errorf("%s: %v, want errMeminfo", key, err)
		}
	}
}
