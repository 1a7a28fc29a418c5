package sys

import "testing"

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
