package paravisor

import (
	"errors"
	"testing"
)

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
