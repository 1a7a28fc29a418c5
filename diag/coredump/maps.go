package coredump

import (
	"errors"
	"fmt"
	"strings"
)

// area is a mapping that the core describes.
type area struct {
	start, end uint64
	flags      uint32 // PF_R and so on
	offset     uint64 // in the file, in bytes
	file       string // empty for none
	dumped     bool   // its bytes are in the core
}

// maxAreas is how many a core can have: e_phnum has 16 bits, and one is for notes.
const maxAreas = 0xfffe

var errMaps = errors.New("the memory map makes no sense")

// parseMaps reads a text as /proc/PID/maps has it, and keeps what belongs in a core.
func parseMaps(text string) ([]area, error) {
	var out []area
	for line := range strings.Lines(text) {
		var a area
		var flags, device string
		var inode uint64
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %s %d", &a.start, &a.end, &flags, &a.offset, &device, &inode); err != nil || len(flags) != 4 || a.end <= a.start {
			return nil, fmt.Errorf("%w: %q", errMaps, line)
		}
		name := ""
		if f := strings.SplitN(line, " ", 6); len(f) == 6 {
			name = strings.TrimSpace(f[5])
		}
		if inode != 0 {
			a.file = name
		}
		for i, flag := range []uint32{pfR, pfW, pfX} {
			if flags[i] != '-' {
				a.flags |= flag
			}
		}
		switch {
		case flags[3] != 'p', a.flags&pfR == 0: // others see it, or nobody does
			continue
		case strings.HasPrefix(name, "[vvar"), name == "[vsyscall]": // the kernel's
			continue
		}
		// What is only read of a file is in the file.
		a.dumped = a.file == "" || a.flags&pfW != 0
		if out = append(out, a); len(out) > maxAreas {
			return nil, fmt.Errorf("%w: more than %d mappings", errMaps, maxAreas)
		}
	}
	return out, nil
}
