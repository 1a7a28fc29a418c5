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

func TestPersistAsksAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []uint64
		want    uint64
	}{
		"at once":     {[]uint64{64}, 64},
		"interrupted": {[]uint64{1, 40, 64}, 64},
		"exhausted":   {[]uint64{30, 30}, 30},
		"nothing":     {[]uint64{0}, 0},
		"fewer":       {[]uint64{8, 3}, 3},
	} {
		asked := 0
		got, err := persist(0, 64, func(uint64) (uint64, error) {
			asked++
			return tt.answers[asked-1], nil
		})
		if err != nil || got != tt.want || asked != len(tt.answers) {
			t.Errorf("%s: %d pages, %v, asked %d times", name, got, err, asked)
		}
	}
}
