package debugport

import "testing"

func TestScratch(t *testing.T) {
	var s Scratch
	s.WritePIO(0, 1, 0x1a5)
	if got := s.ReadPIO(0, 1); got != 0xa5 {
		t.Errorf("read %#x, want 0xa5", got)
	}
	s.Reset()
	if got := s.ReadPIO(0, 1); got != 0 {
		t.Errorf("after reset %#x", got)
	}
}
